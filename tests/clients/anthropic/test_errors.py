"""What the official Anthropic client must find at a running `catena up`: errors, cancelling, keys."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import anthropic
import anyio
import httpx2
import pytest
from tests.clients.anthropic.conftest import ADD, ASK, EMBEDDER, MODEL, Played, closed, new_client, said
from tests.clients.conftest import Gateway, requirement

from catena.core.errors import (
    AuditError,
    BusyError,
    CatenaError,
    ConflictError,
    EngineError,
    ExpiredError,
    FormatError,
    RefusedError,
    ResourceError,
)
from catena.core.messages import Delta

pytestmark = pytest.mark.model
ERRORS, STOPPING, KEYS = "errors", "cancelling", "keys"
TINY: Any = {**ASK, "model": "tiny"}
LONG: Any = {
    **ASK,
    "messages": [{"role": "user", "content": "Write a very long story about a dragon, a castle and the sea."}],
    "max_tokens": 2000,
}
USE: Any = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}


def refused(client: anthropic.Anthropic, **change: Any) -> Any:
    """The details of the error that `change` brings."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{**ASK, **change})
    assert caught.value.type == "invalid_request_error"
    return caught.value.body["error"]["details"]  # type: ignore[index]


@requirement("R01", ERRORS, "a value out of range or of a wrong type is a BadRequestError that names the parameter")
def test_out_of_range(client: anthropic.Anthropic) -> None:
    assert refused(client, extra_body={"temperature": 3})["param"] == "temperature"
    assert refused(client, max_tokens=0)["param"] == "max_tokens"
    assert refused(client, stop_sequences="x")["param"] == "stop_sequences"


@requirement("R02", ERRORS, "an unknown parameter is a BadRequestError with the nearest known name")
def test_unknown_parameter(client: anthropic.Anthropic) -> None:
    details = refused(client, extra_body={"max_tokenz": 5})
    assert details["error_code"] == "unknown_parameter"
    assert "max_tokens" in details["hint"]


@requirement("R03", ERRORS, "a parameter that would change the answer and cannot be honoured is a BadRequestError")
def test_unsupported(client: anthropic.Anthropic) -> None:
    for change in ({"container": "c"}, {"extra_body": {"mcp_servers": [{"name": "x"}]}}):
        assert refused(client, **change)["error_code"] == "unsupported"


@requirement("R04", ERRORS, "an image for a model without a projector is a BadRequestError, also in a tool's result")
def test_image(client: anthropic.Anthropic) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image]}
    turns = [*ASK["messages"], {"role": "assistant", "content": [USE]}, {"role": "user", "content": [result]}]
    for messages, more in (([{"role": "user", "content": [image]}], {}), (turns, {"tools": [ADD]})):
        assert refused(client, messages=messages, **more)["error_code"] == "unsupported"


@requirement("R05", ERRORS, "an image or a document by URL or by file is a BadRequestError: nothing is fetched")
def test_fetching(client: anthropic.Anthropic) -> None:
    for kind in ("image", "document"):
        for source in ({"type": "url", "url": "http://127.0.0.1:9/x"}, {"type": "file", "file_id": "f"}):
            details = refused(client, messages=[{"role": "user", "content": [{"type": kind, "source": source}]}])
            assert details["param"] == "messages[0].content[0].source"


@requirement("R06", ERRORS, "a PDF is a BadRequestError: only plain text is read")
def test_pdf(client: anthropic.Anthropic) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    details = refused(client, messages=[{"role": "user", "content": [{"type": "document", "source": source}]}])
    assert details["error_code"] == "unsupported"


@requirement("R07", ERRORS, "an answer begun by the caller is a BadRequestError, never ignored")
def test_prefill(client: anthropic.Anthropic) -> None:
    turns = [*ASK["messages"], {"role": "assistant", "content": "The colours are"}]
    assert refused(client, messages=turns)["param"] == "messages"


@requirement("R08", ERRORS, "a bad role, no messages, a stray tool result: BadRequestError that names its place")
def test_bad_messages(client: anthropic.Anthropic) -> None:
    stray = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "5"}]}
    for messages in ([{"role": "wizard", "content": "x"}], [], [stray]):
        assert refused(client, messages=messages)["param"].startswith("messages")


@requirement("R09", ERRORS, "tools that a server would run are a BadRequestError that names the tool")
def test_server_tools(client: anthropic.Anthropic) -> None:
    for kind, name in (("web_search_20250305", "web_search"), ("bash_20250124", "bash")):
        details = refused(client, tools=[{"type": kind, "name": name}])
        assert (details["param"], details["error_code"]) == ("tools[0].type", "unsupported")


@requirement("R10", ERRORS, "a prompt over the context is a BadRequestError with both numbers, also for a stream")
def test_context_overflow(client: anthropic.Anthropic) -> None:
    turns = [{"role": "user", "content": "word " * 9000}]
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(**{**ASK, "messages": turns}, stream=stream)
        assert sum(part.strip(".,").isdecimal() for part in (caught.value.api_message or "").split()) >= 2


@requirement("R11", ERRORS, "an unknown model is a NotFoundError; a model of another task a BadRequestError")
def test_models(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(**{**ASK, "model": "claude-sonnet-4-6"})
    assert caught.value.type == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nope")
    assert refused(client, model=EMBEDDER)["param"] == "model"


@requirement("R12", ERRORS, "a part of the API that is not here is a NotFoundError in its own shape")
def test_unknown_route(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.batches.list()
    assert (caught.value.type, caught.value.error_code) == ("not_found_error", "route_not_found")


@requirement("R13", ERRORS, "a beta that cannot be honoured is a BadRequestError that names it")
def test_beta(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.messages.create(**ASK, betas=["mcp-client-2025-11-20"])
    assert "mcp-client-2025-11-20" in caught.value.message


@requirement("R14", ERRORS, "another page's Origin and a foreign Host are a PermissionDeniedError")
def test_origin_and_host(client: anthropic.Anthropic) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client.models.list(extra_headers=headers)
        assert caught.value.type == "permission_error"


@requirement("R15", ERRORS, "a body over the limit is a ContentTooLargeError of type `request_too_large`")
def test_too_large(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.ContentTooLargeError) as caught:
        client.messages.create(**{**ASK, "model": "echo", "system": "x" * (17 << 20)})
    assert caught.value.type == "request_too_large"


@requirement("R16", ERRORS, "a full queue is a RateLimitError with `retry-after`")
def test_busy(small_gateway: Gateway) -> None:
    with ExitStack() as stack, new_client(small_gateway.url) as client:
        caught: anthropic.RateLimitError | None = None
        for _ in range(4):
            try:
                stack.enter_context(client.messages.create(**LONG, stream=True))
            except anthropic.RateLimitError as error:
                caught = error
                break
        assert caught is not None
        assert caught.type == "rate_limit_error"
        assert int(caught.response.headers["retry-after"]) >= 1


@requirement("R17", ERRORS, "the retry of the client itself succeeds once the trouble has passed")
def test_own_retry(played: Played) -> None:
    played.script.refusal = BusyError("full", retry_after_s=0.1)

    class Passing(list[Any]):
        """Forgets the trouble once a question has come."""

        def append(self, item: Any) -> None:
            super().append(item)
            if len(self) == 2:
                played.script.refusal = None

    played.script.asked = Passing()
    with played.client(max_retries=2) as client:
        assert said(client.messages.create(**TINY)) == "Hello world"
    assert len(played.script.asked) == 2


@requirement("R18", ERRORS, "a broken engine is an InternalServerError that is not repeated once work was done")
def test_broken_engine(played: Played) -> None:
    played.script.events = [Delta(text="half"), EngineError("broke")]
    with played.client(max_retries=3) as client, pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.create(**TINY)
    assert caught.value.type == "api_error"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(played.script.asked) == 1


@requirement("R19", ERRORS, "an engine that breaks in mid-stream raises: half an answer has no clean end")
def test_broken_stream(played: Played) -> None:
    played.script.events = [Delta(text="half"), EngineError("broke")]
    pieces: list[str] = []
    with (
        played.client() as client,
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(**TINY) as stream,
    ):
        for text in stream.text_stream:
            pieces.append(text)
    assert "".join(pieces) == "half"
    assert (caught.value.type, caught.value.error_code) == ("api_error", "engine_failed")


@requirement("R20", ERRORS, "every other error is the client's own class, with the type of the API")
def test_other_classes(played: Played) -> None:
    cases: list[tuple[CatenaError, type[anthropic.APIStatusError], str]] = [
        (RefusedError("a rule says no"), anthropic.PermissionDeniedError, "permission_error"),
        (ConflictError("somebody holds it"), anthropic.ConflictError, "conflict_error"),
        (FormatError("the file is not what it says"), anthropic.UnprocessableEntityError, "invalid_request_error"),
        (AuditError("the disk is full"), anthropic.ServiceUnavailableError, "api_error"),
        (ResourceError("no memory"), anthropic.ServiceUnavailableError, "overloaded_error"),
        (ExpiredError("it took too long"), anthropic.GatewayTimeoutError, "timeout_error"),
    ]
    with played.client() as client:
        for refusal, kind, type_ in cases:
            played.script.refusal = refusal
            with pytest.raises(kind) as caught:
                client.messages.create(**TINY)
            assert caught.value.type == type_


@requirement("R21", ERRORS, "no gateway at the address is an APIConnectionError")
def test_no_gateway() -> None:
    with new_client("http://127.0.0.1:9") as client, pytest.raises(anthropic.APIConnectionError):
        client.models.list()


@requirement(
    "R22", ERRORS, "every error has a request id, and one of a model call a receipt whose record says it failed"
)
def test_error_receipt(client: anthropic.Anthropic, gateway: Gateway) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{**ASK, "messages": [{"role": "user", "content": "word " * 9000}]})
    assert (caught.value.request_id or "").startswith("req_")
    record = closed(gateway, caught.value.response.headers["catena-receipt"])
    assert (record["outcome"], record["error_code"]) == ("failed", "context_overflow")


@requirement("R23", ERRORS, "an unusable JSON schema is a BadRequestError")
def test_bad_schema(client: anthropic.Anthropic) -> None:
    for schema in ({"type": "nonsense"}, {"$ref": "http://example.com/schema"}):
        refused(client, output_config={"format": {"type": "json_schema", "schema": schema}})


@requirement("X01", STOPPING, "a stream closed half-way is cancelled: its record says so and counts what went out")
def test_cancel_stream(client: anthropic.Anthropic, gateway: Gateway) -> None:
    stream = client.messages.create(**LONG, stream=True)
    for _ in range(5):
        next(iter(stream))
    stream.close()
    record = closed(gateway, stream.response.headers["catena-receipt"])
    assert record["outcome"] == "cancelled"
    assert 1 <= record["num_deltas"] < 1000


@requirement("X02", STOPPING, "more cancelled streams than slots leave every slot free")
def test_cancel_frees_slots(client: anthropic.Anthropic) -> None:
    for _ in range(6):
        stream = client.messages.create(**LONG, stream=True)
        next(iter(stream))
        stream.close()
    assert said(client.messages.create(**{**ASK, "max_tokens": 1}))


@requirement("X03", STOPPING, "a cancelled task of AsyncAnthropic cancels the work")
def test_cancel_async(gateway: Gateway) -> None:
    async def main() -> None:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="x", max_retries=0) as client:
            with anyio.move_on_after(0.5):
                await client.messages.create(**LONG)

    anyio.run(main)
    newest = gateway.get("/catena/v1/receipts?limit=1")["receipts"][0]["receipt"]
    assert closed(gateway, newest)["outcome"] == "cancelled"


@requirement("Y01", KEYS, "a wrong key of ours is an AuthenticationError, as api_key and as auth_token")
def test_wrong_key(gateway: Gateway) -> None:
    wrong = "ctn_00000000_" + "0" * 64
    for options in ({"api_key": wrong}, {"api_key": None, "auth_token": wrong}):
        with new_client(gateway.url, **options) as client, pytest.raises(anthropic.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.type == "authentication_error"


@requirement("Y02", KEYS, "the header `x-api-key` of older clients and programs is read too")
def test_x_api_key(gateway: Gateway) -> None:
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "ctn_00000000_" + "0" * 64}
    answer = httpx2.get(f"{gateway.url}/v1/models", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert httpx2.get(f"{gateway.url}/v1/models", headers={**headers, "x-api-key": "any"}).status_code == 200


@requirement("Y03", KEYS, "the older API version is answered alike, and an unknown one with a warning")
def test_versions(client: anthropic.Anthropic) -> None:
    warnings = []
    for version in ("2023-06-01", "2026-10-21", "2099-01-01"):
        raw = client.messages.with_raw_response.create(
            **{**ASK, "max_tokens": 1}, extra_headers={"anthropic-version": version}
        )
        assert raw.parse().model == MODEL
        warnings.append(raw.headers.get("catena-warning", ""))
    assert warnings[:2] == ["", ""]
    assert "2099-01-01" in warnings[2]


@requirement("Y04", KEYS, "one connection serves many requests at once from many threads")
def test_threads(client: anthropic.Anthropic) -> None:
    found: list[str] = []

    def one() -> None:
        found.append(said(client.messages.create(**{**ASK, "model": "echo", "extra_body": None})))

    threads = [threading.Thread(target=one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["Name the colours of a traffic light."] * 16
