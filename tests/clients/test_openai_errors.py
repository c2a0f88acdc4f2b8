"""What the official OpenAI client must find at a running `catena up`: errors, cancellation, concurrency."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import anyio
import httpx2
import openai
import pytest
from tests.clients.conftest import Gateway, requirement
from tests.clients.test_openai_requirements import ASK, EMBEDDER, MODEL, content, text
from tests.reach.gateway.conftest import MODEL as TINY
from tests.reach.gateway.conftest import Door, Log, Memory, Row, Script, over_loopback

from catena.core.errors import (
    AuditError,
    BusyError,
    CatenaError,
    ConflictError,
    EngineError,
    ExpiredError,
    FormatError,
    RefusedError,
)
from catena.core.messages import Delta
from catena.core.settings import ReachSettings

pytestmark = pytest.mark.model
ERRORS, STOPPING, TOGETHER = "errors", "cancelling", "concurrency"
LONG: Any = {**ASK, "max_tokens": 2000, "extra_body": {"ignore_eos": True}}
WAIT_S = 10


def closed(gateway: Gateway, receipt: str) -> Any:
    """The closing record, waiting for it a bounded time."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if record := gateway.record(receipt):
            return record
    raise AssertionError("the record was not closed in time")


def newest(gateway: Gateway) -> str:
    """The receipt of the newest request."""
    return gateway.get("/catena/v1/receipts?limit=1")["receipts"][0]["receipt"]


def refused(client: openai.OpenAI, **change: Any) -> openai.BadRequestError:
    """The error that `change` brings."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASK, **change})
    return caught.value


@requirement("R01", ERRORS, "a value out of range is a BadRequestError that names the parameter")
def test_out_of_range(client: openai.OpenAI) -> None:
    error = refused(client, temperature=3)
    assert (error.param, error.type) == ("temperature", "invalid_request_error")


@requirement("R02", ERRORS, "a wrong type is a BadRequestError that names the parameter")
def test_wrong_type(client: openai.OpenAI) -> None:
    assert refused(client, max_tokens="many").param == "max_tokens"


@requirement("R03", ERRORS, "an unknown parameter is a BadRequestError with the nearest known name")
def test_unknown_parameter(client: openai.OpenAI) -> None:
    error = refused(client, extra_body={"max_tokenz": 5})
    assert error.code == "unknown_parameter"
    assert "max_tokens" in str(error.body)


@requirement("R04", ERRORS, "a parameter that cannot be honoured is a BadRequestError with code `unsupported`")
def test_unsupported(client: openai.OpenAI) -> None:
    for change in ({"functions": [{"name": "f"}]}, {"modalities": ["text", "audio"]}, {"web_search_options": {}}):
        assert refused(client, **change).code == "unsupported"


@requirement("R05", ERRORS, "more tokens than the context is a BadRequestError with both numbers, never a silent cut")
def test_context_overflow(client: openai.OpenAI) -> None:
    error = refused(client, messages=[{"role": "user", "content": "word " * 9000}])
    assert error.code == "context_length_exceeded"
    assert sum(part.strip(".,").isdecimal() for part in error.message.split()) >= 2


@requirement("R06", ERRORS, "the same in a stream: the error comes before any chunk, as an HTTP error")
def test_context_overflow_stream(client: openai.OpenAI) -> None:
    assert refused(client, messages=[{"role": "user", "content": "word " * 9000}], stream=True).status_code == 400


@requirement(
    "R07", ERRORS, "an address of an image is refused by its place, and an image where the model reads text only"
)
def test_image(client: openai.OpenAI) -> None:
    for url, param in (("data:image/png;base64,AAAA", "messages"), ("http://[::1]/a.png", "messages[0].content[0]")):
        part = {"type": "image_url", "image_url": {"url": url}}
        assert refused(client, messages=[{"role": "user", "content": [part]}]).param == param


@requirement("R08", ERRORS, "a bad role, an empty list of messages, a stray tool result: BadRequestError")
def test_bad_messages(client: openai.OpenAI) -> None:
    stray = {"role": "tool", "tool_call_id": "x", "content": "5"}
    for messages in ([{"role": "wizard", "content": "x"}], [], [stray]):
        assert (refused(client, messages=messages).param or "").startswith("messages")


@requirement("R09", ERRORS, "an unusable JSON schema is a BadRequestError")
def test_bad_schema(client: openai.OpenAI) -> None:
    for schema in ({"type": "nonsense"}, {"$ref": "http://example.com/schema"}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        assert refused(client, response_format=form).status_code == 400


@requirement("R10", ERRORS, "an unknown model is a NotFoundError with code `model_not_found`")
def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**{**ASK, "model": "smollm2-135m"})
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


@requirement("R11", ERRORS, "a part of the API that is not here is a NotFoundError")
def test_unknown_route(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.list()
    assert caught.value.code == "route_not_found"


@requirement("R12", ERRORS, "a model of the wrong task is a BadRequestError that names `model`")
def test_wrong_task(client: openai.OpenAI) -> None:
    assert refused(client, model=EMBEDDER).param == "model"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=MODEL, input="x")


@requirement("R13", ERRORS, "a wrong key of ours is an AuthenticationError, also on loopback")
def test_wrong_key(gateway: Gateway) -> None:
    with (
        gateway.client(api_key="ctn_00000000_" + "0" * 64) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


@requirement("R14", ERRORS, "another page's Origin is a PermissionDeniedError")
def test_origin(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.list(extra_headers={"Origin": "http://evil.example"})


@requirement("R15", ERRORS, "a foreign Host (DNS rebinding) is a PermissionDeniedError")
def test_host(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.list(extra_headers={"Host": "evil.example"})


@requirement("R16", ERRORS, "a body over the limit is an APIStatusError 413")
def test_too_large(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(model="echo", prompt="x" * (17 << 20))
    assert caught.value.status_code == 413


@requirement("R17", ERRORS, "a full queue is a RateLimitError with `retry-after`, and the client's own retry succeeds")
def test_busy(small_gateway: Gateway) -> None:
    with ExitStack() as stack, small_gateway.client() as client:
        caught: openai.RateLimitError | None = None
        for _ in range(4):
            try:
                stack.enter_context(client.chat.completions.create(**LONG, stream=True))
            except openai.RateLimitError as error:
                caught = error
                break
        assert caught is not None
        assert int(caught.response.headers["retry-after"]) >= 1
        assert caught.code == "rate_limit_exceeded"
    with small_gateway.client(max_retries=5) as patient:
        assert patient.chat.completions.create(**{**ASK, "max_tokens": 1}).choices[0].message.content


@pytest.fixture
def broken() -> Iterator[tuple[Script, str]]:
    """The same gateway over a router whose engine fails as the test wants; gives its script and address."""
    from catena.reach.access import Access
    from catena.reach.gateway.application import create

    script = Script()
    rows = [Row("tiny", TINY.digest, (), TINY.manifest)]
    app = create(script, ReachSettings(port=0, drain_s=0.1), Access(Memory()), models=lambda: rows)
    door = Door(app, script, Access(Memory()), Log())
    with over_loopback(door, ReachSettings(port=0, drain_s=0.1)) as (running, _):
        yield script, running.url


@requirement("R18", ERRORS, "a broken engine is an InternalServerError that is not repeated once work was done")
def test_broken_engine(broken: tuple[Script, str]) -> None:
    script, url = broken
    script.events = [Delta(text="half"), EngineError("broke")]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=3, timeout=10) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**{**ASK, "model": "tiny"})
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert len(script.asked) == 1


@requirement("R19", ERRORS, "an engine that breaks in mid-stream is an APIError: half an answer has no clean end")
def test_broken_stream(broken: tuple[Script, str]) -> None:
    script, url = broken
    script.events = [Delta(text="half"), EngineError("broke")]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=10) as client:
        said: list[str] = []
        with pytest.raises(openai.APIError) as caught:
            for chunk in client.chat.completions.create(**{**ASK, "model": "tiny"}, stream=True):
                said.append(chunk.choices[0].delta.content or "")
        assert "".join(said) == "half"
        assert caught.value.code == "engine_failed"


@requirement("R22", ERRORS, "a disk that takes no record is an InternalServerError 503 with `retry-after`: no answer")
def test_no_record_no_answer(broken: tuple[Script, str]) -> None:
    script, url = broken
    for events in ([AuditError("the disk is full")], [Delta(text="half"), AuditError("the disk is full")]):
        script.events = events
        with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=10) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(**{**ASK, "model": "tiny"})
            assert (caught.value.status_code, caught.value.code) == (503, "audit_unavailable")
            assert int(caught.value.response.headers["retry-after"]) >= 1


@requirement("R23", ERRORS, "a time limit is an InternalServerError 504 that is not repeated")
def test_time_limit(broken: tuple[Script, str]) -> None:
    script, url = broken
    script.events = [ExpiredError("it took too long")]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=3, timeout=10) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**{**ASK, "model": "tiny"})
        assert (caught.value.status_code, caught.value.code) == (504, "expired")
        assert len(script.asked) == 1


@requirement("R24", ERRORS, "what a rule refuses is a PermissionDeniedError with code `refused`")
def test_refused(broken: tuple[Script, str]) -> None:
    script, url = broken
    script.refusal = RefusedError("a rule says no")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=3, timeout=10) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(**{**ASK, "model": "tiny"}, stream=True)
        assert caught.value.code == "refused"
        assert len(script.asked) == 1


@requirement("R25", ERRORS, "a file that cannot be used is an UnprocessableEntityError, a conflict a ConflictError")
def test_other_classes(broken: tuple[Script, str]) -> None:
    script, url = broken
    cases: list[tuple[CatenaError, type[openai.APIStatusError]]] = [
        (FormatError("the file is not what it says"), openai.UnprocessableEntityError),
        (ConflictError("somebody holds it"), openai.ConflictError),
    ]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=10) as client:
        for refusal, kind in cases:
            script.refusal = refusal
            with pytest.raises(kind):
                client.chat.completions.create(**{**ASK, "model": "tiny"})


@requirement("R26", ERRORS, "the retry of the client itself succeeds once the trouble has passed")
def test_own_retry(broken: tuple[Script, str]) -> None:
    script, url = broken
    script.refusal = BusyError("full", retry_after_s=0.1)

    class Passing(list[Any]):
        """Forgets the trouble once a question has come."""

        def append(self, item: Any) -> None:
            super().append(item)
            if len(self) == 2:
                script.refusal = None

    script.asked = Passing()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=2, timeout=10) as client:
        answer = client.chat.completions.create(**{**ASK, "model": "tiny"})
    assert answer.choices[0].message.content == "Hello world"
    assert len(script.asked) == 2


@requirement("R27", ERRORS, "an empty input, a stray type, too many texts: BadRequestError that names `input`")
def test_bad_input(client: openai.OpenAI) -> None:
    for inputs in ("", [], ["a", ""], [1.5], [["a"]]):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model=EMBEDDER, input=inputs)  # type: ignore[arg-type]
        assert (caught.value.param or "").startswith("input")


@requirement("R20", ERRORS, "no gateway at the address is an APIConnectionError")
def test_no_gateway() -> None:
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.models.list()


@requirement("R21", ERRORS, "every error of a model call has its receipt, whose record says it failed")
def test_error_receipt(client: openai.OpenAI, gateway: Gateway) -> None:
    error = refused(client, messages=[{"role": "user", "content": "word " * 9000}])
    record = closed(gateway, error.response.headers["catena-receipt"])
    assert (record["outcome"], record["error_code"]) == ("failed", "context_overflow")


@requirement("X01", STOPPING, "a stream closed half-way is cancelled: its record says so and counts what went out")
def test_cancel_stream(client: openai.OpenAI, gateway: Gateway) -> None:
    stream = client.chat.completions.create(**LONG, stream=True)
    for _ in range(5):
        next(iter(stream))
    receipt = stream.response.headers["catena-receipt"]
    stream.close()
    record = closed(gateway, receipt)
    assert record["outcome"] == "cancelled"
    assert 1 <= record["num_deltas"] < 1000


@requirement("X02", STOPPING, "more cancelled streams than slots leave every slot free")
def test_cancel_frees_slots(client: openai.OpenAI, gateway: Gateway) -> None:
    streams = [client.chat.completions.create(**LONG, stream=True) for _ in range(4)]
    for stream in streams:
        next(iter(stream))
    receipts = [stream.response.headers["catena-receipt"] for stream in streams]
    for stream in streams:
        stream.close()
    assert content(client, max_tokens=2)
    assert {closed(gateway, receipt)["outcome"] for receipt in receipts} == {"cancelled"}


@requirement("X03", STOPPING, "the client's timeout is an APITimeoutError, and the work it left behind is cancelled")
def test_timeout(gateway: Gateway) -> None:
    with gateway.client(timeout=0.5) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.chat.completions.create(**LONG)
    assert closed(gateway, newest(gateway))["outcome"] == "cancelled"


@requirement("X04", STOPPING, "a cancelled task of AsyncOpenAI cancels the work")
def test_cancel_async(gateway: Gateway) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
            with anyio.move_on_after(0.5):
                await client.chat.completions.create(**LONG)

    anyio.run(main)
    assert closed(gateway, newest(gateway))["outcome"] == "cancelled"


@requirement("X05", STOPPING, "a stream abandoned before its first token is cancelled")
def test_cancel_before_the_first_token(gateway: Gateway) -> None:
    long_prompt = [{"role": "user", "content": f"{number} apples and " * 700} for number in (1,)]
    with gateway.client(timeout=0.3) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.chat.completions.create(**{**LONG, "messages": long_prompt}, stream=True)
    record = closed(gateway, newest(gateway))
    assert (record["outcome"], record["num_deltas"]) == ("cancelled", 0)


@requirement("X06", STOPPING, "a completion closed half-way is cancelled like a chat")
def test_cancel_completion(client: openai.OpenAI, gateway: Gateway) -> None:
    ask: Any = {"model": MODEL, "prompt": "One, two,", "max_tokens": 2000, "extra_body": {"ignore_eos": True}}
    stream = client.completions.create(**ask, stream=True)
    next(iter(stream))
    receipt = stream.response.headers["catena-receipt"]
    stream.close()
    assert closed(gateway, receipt)["outcome"] == "cancelled"


@requirement("P01", TOGETHER, "AsyncOpenAI gets answers at once and streamed")
def test_async(gateway: Gateway) -> None:
    async def main() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
            whole = await client.chat.completions.create(**ASK)
            stream = await client.chat.completions.create(**ASK, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content or "", "".join(pieces)

    whole, streamed = anyio.run(main)
    assert whole == streamed != ""


@requirement("P02", TOGETHER, "eight streams at once over four slots all end well, each with its own text and receipt")
def test_eight_streams(client: openai.OpenAI) -> None:
    def one(number: int) -> tuple[str, str]:
        ask = {**ASK, "messages": [{"role": "user", "content": f"Count to {number}."}], "max_tokens": 8}
        stream = client.chat.completions.create(**ask, stream=True)
        return text(stream), stream.response.headers["catena-receipt"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(2, 10)))
    assert all(said for said, _ in answers)
    assert len({receipt for _, receipt in answers}) == 8


@requirement("P03", TOGETHER, "chat, completions and embeddings at once do not disturb one another")
def test_mixed(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(6) as pool:
        chats = [pool.submit(content, client, max_tokens=4) for _ in range(2)]
        vectors = [pool.submit(client.embeddings.create, model=EMBEDDER, input="a cat") for _ in range(2)]
        texts = [
            pool.submit(client.completions.create, model=MODEL, prompt="One, two,", max_tokens=4) for _ in range(2)
        ]
        assert all(one.result(60) for one in chats)
        assert all(len(one.result(60).data[0].embedding) == 384 for one in vectors)
        assert all(one.result(60).choices[0].text for one in texts)


@requirement("P04", TOGETHER, "a slow reader gets its whole answer and holds nobody up")
def test_slow_reader(client: openai.OpenAI) -> None:
    ask: Any = {"model": "echo", "messages": [{"role": "user", "content": "word " * 200}]}
    slow = client.chat.completions.create(**ask, stream=True)
    first = next(iter(slow))
    assert content(client, max_tokens=2)
    assert (first.choices[0].delta.content or "") + text(slow)


@requirement("P05", TOGETHER, "keep-alive: one connection serves many requests of the client")
def test_keep_alive(gateway: Gateway) -> None:
    done = threading.Event()
    with httpx2.Client(base_url=gateway.url, limits=httpx2.Limits(max_connections=1)) as one:
        statuses = {one.get("/v1/models").status_code for _ in range(20)}
        done.set()
    assert statuses == {200}
    assert done.is_set()
