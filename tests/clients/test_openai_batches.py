"""What the official OpenAI client must find at a running `catena up` when it asks in batches."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.clients.conftest import Desk, Gateway, requirement, up

from catena.core.errors import NotFoundError
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.vault import Vault
from catena.store.database import Database
from catena.watch.log import AuditReader

TOPIC = "batches"
CHAT = "/v1/chat/completions"
OVER = {"completed", "failed", "expired", "cancelled"}
# So many requests of echo are not answered within a second or two.
MANY = 6000


@pytest.fixture
def client(desk: Desk) -> Iterator[openai.OpenAI]:
    """A client whose key nobody else uses."""
    with desk.client() as client:
        yield client


def line(number: int, **body: Any) -> dict[str, Any]:
    asked = {"model": "echo", "messages": [{"role": "user", "content": f"say {number}"}], **body}
    return {"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": asked}


def begin(client: openai.OpenAI, lines: Iterable[Any], endpoint: Any = CHAT, **options: Any) -> Any:
    """Upload lines (texts go as they are) and make a batch of them."""
    text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return client.batches.create(
        **{"input_file_id": file.id, "endpoint": endpoint, "completion_window": "24h", **options}
    )


def until(client: openai.OpenAI, id: str, statuses: Iterable[str] = OVER, least: int = 0) -> Any:
    """Wait until a batch has one of these statuses, or has answered so many requests."""
    end = time.monotonic() + 60
    while True:
        batch = client.batches.retrieve(id)
        if batch.status in statuses or (least and batch.request_counts.completed >= least):
            return batch
        assert time.monotonic() < end, batch
        time.sleep(0.02)


def run(client: openai.OpenAI, lines: Iterable[Any], endpoint: Any = CHAT, **options: Any) -> Any:
    return until(client, begin(client, lines, endpoint, **options).id)


def rows(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file that a batch made."""
    assert file_id is not None
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def said(row: dict[str, Any]) -> str:
    return row["response"]["body"]["choices"][0]["message"]["content"]


@requirement("B01", TOPIC, "a batch goes from validating to completed, with a time for each status it had")
def test_a_batch_completes(client: openai.OpenAI) -> None:
    batch = begin(client, map(line, range(3)), metadata={"who": "me"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
    assert batch.expires_at == batch.created_at + 86_400
    done = until(client, batch.id)
    assert done.status == "completed"
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    assert done.metadata == {"who": "me"}
    assert done.model == "echo"
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (3, 3, 0)


@requirement("B02", TOPIC, "each line of the output names its request and holds the whole answer, or an error")
def test_the_output(client: openai.OpenAI) -> None:
    done = run(client, map(line, range(20)))
    found = rows(client, done.output_file_id)
    assert {row["custom_id"]: said(row) for row in found} == {f"r{number}": f"say {number}" for number in range(20)}
    for row in found:
        assert row["error"] is None
        assert row["response"]["status_code"] == 200
        assert row["response"]["request_id"].startswith("req_")
    assert len({row["id"] for row in found}) == 20
    assert done.error_file_id is None
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"  # type: ignore[comparison-overlap]


@requirement(
    "B03", TOPIC, "each answer names the receipt of its own record, which is closed, under the key of the batch"
)
def test_each_line_is_recorded(client: openai.OpenAI, desk: Desk) -> None:
    done = run(client, map(line, range(3)))
    reader = AuditReader.open(desk.home / "audit")
    for row in rows(client, done.output_file_id):
        record = reader.find(row["response"]["catena_receipt"])
        assert record.opened.caller == client.api_key[:12]
        assert record.opened.door == "openai.chat.batch"
        assert record.closed is not None and record.closed.outcome == "complete"


@requirement("B04", TOPIC, "requests that fail are in the error file with their answer; the batch completes")
def test_the_errors(client: openai.OpenAI) -> None:
    done = run(client, [line(0), line(1, model="none"), line(2, temperature=9), line(3, max_token=1)])
    assert done.status == "completed"
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 3)
    found = {row["custom_id"]: row["response"] for row in rows(client, done.error_file_id)}
    assert {name: one["status_code"] for name, one in found.items()} == {"r1": 404, "r2": 400, "r3": 400}
    assert found["r1"]["body"]["error"]["code"] == "model_not_found"
    assert found["r2"]["body"]["error"]["param"] == "temperature"
    assert found["r3"]["body"]["error"]["code"] == "unknown_parameter"


@requirement("B05", TOPIC, "a batch of which no request succeeds completes without an output file")
def test_a_batch_of_errors(client: openai.OpenAI) -> None:
    done = run(client, [line(0, model="none")])
    assert (done.status, done.output_file_id) == ("completed", None)
    assert len(rows(client, done.error_file_id)) == 1


@requirement("B06", TOPIC, "an input with wrong lines fails before anything runs, and names line, code and parameter")
def test_a_wrong_input(client: openai.OpenAI) -> None:
    bad: dict[str, Any] = {
        "invalid_json_line": "{not json",
        "missing_required_parameter": {"custom_id": "x", "method": "POST", "url": CHAT},
        "duplicate_custom_id": line(0),
        "invalid_method": {**line(4), "method": "GET"},
        "mismatched_url": {**line(5), "url": "/v1/embeddings"},
        "unsupported": line(6, stream=True),
        "unknown_parameter": {**line(7), "extra": 1},
        "invalid_type": {**line(8), "body": []},
        "invalid_custom_id": {**line(9), "custom_id": ""},
    }
    done = run(client, [line(0), *bad.values()])
    assert (done.status, done.output_file_id, done.error_file_id) == ("failed", None, None)
    assert [(one.line, one.code) for one in done.errors.data] == list(enumerate(bad, 2))
    assert done.errors.data[5].param == "body.stream"
    assert done.failed_at is not None
    assert done.request_counts.completed == 0


@requirement("B07", TOPIC, "an input without requests fails with empty_file")
def test_an_empty_input(client: openai.OpenAI) -> None:
    done = run(client, ["", "  "])
    assert (done.status, done.errors.data[0].code) == ("failed", "empty_file")


@requirement("B08", TOPIC, "blank lines, and an end without a line break, are no errors")
def test_blank_lines(client: openai.OpenAI) -> None:
    text = f"\n{json.dumps(line(0))}\r\n\n{json.dumps(line(1))}"
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert until(client, batch.id).request_counts.completed == 2


@requirement("B09", TOPIC, "/v1/completions runs in batches")
def test_completions(client: openai.OpenAI) -> None:
    body = {"model": "echo", "prompt": "once upon"}
    done = run(
        client,
        [{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}],
        "/v1/completions",
    )
    assert rows(client, done.output_file_id)[0]["response"]["body"]["choices"][0]["text"] == "once upon"


@requirement("B10", TOPIC, "/v1/responses runs in batches, and its tokens are counted")
def test_responses(client: openai.OpenAI) -> None:
    body = {"model": "echo", "input": "two words", "store": False}
    done = run(client, [{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}], "/v1/responses")
    answer = rows(client, done.output_file_id)[0]["response"]["body"]
    assert answer["output"][0]["content"][0]["text"] == "two words"
    assert (done.usage.input_tokens, done.usage.output_tokens) == (2, 2)


@pytest.mark.model
@requirement("B11", TOPIC, "/v1/embeddings runs in batches, with the vectors that are given at once")
def test_embeddings(gateway: Gateway) -> None:
    model = "bge-small-en-v1.5"
    texts = ["a cat", "a dog"]
    lines = [
        {"custom_id": text, "method": "POST", "url": "/v1/embeddings", "body": {"model": model, "input": text}}
        for text in texts
    ]
    with gateway.client() as client:
        done = run(client, lines, "/v1/embeddings")
        found = {row["custom_id"]: row["response"]["body"]["data"] for row in rows(client, done.output_file_id)}
        for text in texts:
            wanted = client.embeddings.create(model=model, input=text, encoding_format="float").data[0].embedding
            assert found[text][0]["embedding"] == pytest.approx(wanted, abs=1e-6)


@requirement("B12", TOPIC, "`batches.list` goes through all pages, newest first")
def test_batches_are_listed(client: openai.OpenAI) -> None:
    made = [begin(client, [line(0)]).id for _ in range(3)]
    page = client.batches.list(limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    assert [batch.id for batch in page] == made[::-1]


@requirement("B13", TOPIC, "`usage` sums the tokens of all answers")
def test_usage(client: openai.OpenAI) -> None:
    usage = run(client, map(line, range(10))).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (20, 20, 40)


@requirement("B14", TOPIC, "a cancelled batch stops at once and keeps what was answered")
def test_cancel(client: openai.OpenAI) -> None:
    batch = begin(client, map(line, range(MANY)))
    until(client, batch.id, least=20)
    began_s = time.monotonic()
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = until(client, batch.id)
    assert time.monotonic() - began_s < 2
    assert done.status == "cancelled"
    assert done.cancelling_at <= done.cancelled_at
    found = rows(client, done.output_file_id)
    assert 20 <= len(found) == done.request_counts.completed < MANY
    assert len({row["custom_id"] for row in found}) == len(found)


@requirement("B15", TOPIC, "a batch that is over cannot be cancelled: 409")
def test_cancel_too_late(client: openai.OpenAI) -> None:
    done = run(client, [line(0)])
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(done.id)


@requirement("B16", TOPIC, "at the end of its window a batch expires: what was not answered is in the error file")
def test_expiry(client: openai.OpenAI) -> None:
    window: Any = "1s"
    done = run(client, map(line, range(MANY)), completion_window=window)
    assert done.status == "expired"
    assert done.expired_at is not None
    errors = rows(client, done.error_file_id)
    assert errors[0]["response"] is None
    assert errors[0]["error"]["code"] == "batch_expired"
    answered = rows(client, done.output_file_id) if done.output_file_id else []
    names = Counter(row["custom_id"] for row in [*errors, *answered])
    assert names == Counter(f"r{number}" for number in range(MANY))
    assert done.request_counts.completed + done.request_counts.failed == MANY


@requirement("B17", TOPIC, "a batch fails when the key that made it is revoked; nothing more is asked in its name")
def test_a_revoked_key(client: openai.OpenAI, desk: Desk) -> None:
    batch = begin(client, map(line, range(MANY)))
    until(client, batch.id, least=1)
    database = Database(desk.home / "catena.db")
    try:
        Access(database).revoke(client.api_key[:12])
        end = time.monotonic() + 10
        state: dict[str, Any] = {}
        vault = Vault.open(desk.home, ReachSettings())
        while state.get("status") not in OVER:
            assert time.monotonic() < end
            time.sleep(0.05)
            with suppress(NotFoundError):  # sealed anew just now
                [(sealed,)] = database.read("SELECT state FROM batches WHERE id = ?", (batch.id,))
                state = json.loads(vault.open_sealed("batch", batch.id, sealed))
        vault.close()
    finally:
        database.close()
    assert state["status"] == "failed"
    assert [problem["code"] for problem in state["problems"]] == ["key_revoked"]
    assert state["counts"]["completed"] < MANY


@requirement("B18", TOPIC, "batches of one key are unknown to every other")
def test_batches_belong_to_their_key(client: openai.OpenAI, desk: Desk) -> None:
    batch = begin(client, [line(0)])
    with desk.client() as other:
        assert list(other.batches.list()) == []
        for call in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                call(batch.id)
        with pytest.raises(openai.NotFoundError) as caught:
            other.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
        assert caught.value.param == "input_file_id"


@requirement("B19", TOPIC, "a batch goes on after kills at any moment: no finished line is lost, none is there twice")
def test_kills(tmp_path: Path) -> None:
    home, num_lines, concurrency, num_kills = tmp_path / "home", 400, 4, 5
    settings = {"CATENA__REACH__BATCH_CONCURRENCY": str(concurrency)}
    draw = random.Random(7)
    id, answered = "", 0
    for _ in range(num_kills):
        with up(home, "--echo", **settings) as running, running.client() as client:
            if not id:
                lines = [
                    line(number, model="none") if number % 10 == 0 else line(number) for number in range(num_lines)
                ]
                id = begin(client, lines).id
            batch = until(client, id, least=min(answered + draw.randrange(1, 70), 350))
            assert batch.request_counts.completed >= answered, "a finished line was lost"
            answered = batch.request_counts.completed
            time.sleep(draw.random() * 0.02)
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
    with up(home, "--echo", **settings) as running, running.client() as client:
        done = until(client, id)
        assert done.status == "completed"
        good, bad = rows(client, done.output_file_id), rows(client, done.error_file_id)
    wanted = {f"r{number}": f"say {number}" for number in range(num_lines) if number % 10}
    assert Counter(row["custom_id"] for row in good) == Counter(dict.fromkeys(wanted, 1))
    assert {row["custom_id"]: said(row) for row in good} == wanted
    assert sorted(row["custom_id"] for row in bad) == sorted(f"r{number}" for number in range(0, num_lines, 10))
    assert (done.request_counts.completed, done.request_counts.failed) == (360, 40)
    assert done.usage.output_tokens == 2 * 360
    reader = AuditReader.open(home / "audit")
    num_asked = len(reader.recent(10 * num_lines))
    assert 360 <= num_asked <= 360 + num_kills * concurrency, "only what was in flight is computed again"
    assert not list((home / "batches").iterdir())


@requirement("B20", TOPIC, "a gateway that is asked to stop does not wait for a batch, and the next goes on with it")
def test_stop(tmp_path: Path) -> None:
    with up(tmp_path / "home", "--echo") as running, running.client() as client:
        id = begin(client, map(line, range(300))).id
        until(client, id, least=10)
        began_s = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert time.monotonic() - began_s < 5
    with up(tmp_path / "home", "--echo") as running, running.client() as client:
        done = until(client, id)
        found = rows(client, done.output_file_id)
    assert len({row["custom_id"] for row in found}) == len(found) == 300


@requirement("B21", TOPIC, "the input of a batch cannot be deleted before its end")
def test_the_input_is_held(client: openai.OpenAI) -> None:
    batch = begin(client, map(line, range(MANY)))
    with pytest.raises(openai.ConflictError):
        client.files.delete(batch.input_file_id)
    client.batches.cancel(batch.id)
    until(client, batch.id)
    assert client.files.delete(batch.input_file_id).deleted


@requirement("B22", TOPIC, "an endpoint that does not run in batches is refused, naming `endpoint`")
def test_an_unknown_endpoint(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        begin(client, [line(0)], "/v1/moderations")
    assert caught.value.param == "endpoint"


@requirement("B23", TOPIC, "a file with another purpose than batch is refused, naming `input_file_id`")
def test_another_purpose(client: openai.OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", b"{}"), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert caught.value.param == "input_file_id"


@requirement("B24", TOPIC, "a window that is no time, or metadata over its bounds, is refused, naming the parameter")
def test_parameters_out_of_range(client: openai.OpenAI) -> None:
    wrong: dict[str, tuple[Any, ...]] = {
        "completion_window": ("soon", "0s", "31d"),
        "metadata": ({str(number): "" for number in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}),
        "output_expires_after.seconds": ({"anchor": "created_at", "seconds": 1},),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(openai.BadRequestError) as caught:
                begin(client, [line(0)], **{name.partition(".")[0]: value})
            assert caught.value.param == name


@requirement("B25", TOPIC, "with `output_expires_after` the files of a batch name their end")
def test_outputs_that_end(client: openai.OpenAI) -> None:
    keep: Any = {"anchor": "created_at", "seconds": 7200}
    done = run(client, [line(0)], output_expires_after=keep)
    file = client.files.retrieve(done.output_file_id)
    assert file.expires_at == file.created_at + 7200
    assert client.files.retrieve(run(client, [line(0)]).output_file_id).expires_at is None


@requirement("B26", TOPIC, "while a batch runs, whoever waits for an answer is answered before it")
def test_others_go_first(client: openai.OpenAI, desk: Desk) -> None:
    batch = begin(client, map(line, range(MANY)))
    until(client, batch.id, least=1)
    with desk.client() as other:
        for _ in range(20):
            asked: Any = [{"role": "user", "content": "now"}]
            answer = other.chat.completions.with_raw_response.create(model="echo", messages=asked)
            queued_ms = float(answer.headers["server-timing"].partition("queue;dur=")[2].partition(",")[0])
            assert queued_ms == 0
    assert client.batches.retrieve(batch.id).status == "in_progress", "the batch ran all the while"
    client.batches.cancel(batch.id)
    until(client, batch.id)


@requirement("B27", TOPIC, "an unknown batch is not found, in the API's form")
def test_an_unknown_batch(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.batches.retrieve("batch_none")
    assert caught.value.code == "not_found"
