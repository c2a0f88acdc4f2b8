"""The other routes: completions, embeddings, models, receipts, health, metrics."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from tests.reach.gateway.conftest import CHECKPOINT, MODEL, Door, Row
from tests.reach.gateway.test_chat import chunks

from catena.core.messages import Delta, Finished, TokenLogprob, Usage

pytestmark = pytest.mark.anyio
COMPLETE = "/v1/completions"
EMBED = "/v1/embeddings"


async def test_a_completion_at_once_and_streamed_says_the_same(door: Door) -> None:
    body = {"model": "tiny", "prompt": "Say"}
    whole = (await door.post(COMPLETE, body)).json
    assert whole["object"] == "text_completion"
    assert whole["choices"] == [{"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}]
    found = chunks((await door.post(COMPLETE, {**body, "stream": True})).body)
    assert "".join(chunk["choices"][0]["text"] for chunk in found) == "Hello world"
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_completion_without_max_tokens_gets_sixteen_as_in_the_original(door: Door) -> None:
    await door.post(COMPLETE, {"model": "tiny", "prompt": "Say"})
    await door.post(COMPLETE, {"model": "tiny", "prompt": "Say", "max_tokens": 3})
    assert [asked.sampling.max_tokens for asked in door.script.asked] == [16, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("prompt", "asked"), [("a", "a"), (["a"], "a"), ([1, 2], (1, 2)), ([[1, 2]], (1, 2)), ("", "")]
)
async def test_a_prompt_is_a_text_or_tokens(door: Door, prompt: Any, asked: Any) -> None:
    assert (await door.post(COMPLETE, {"model": "tiny", "prompt": prompt})).status == 200
    assert door.script.asked[0].prompt == asked  # type: ignore[union-attr]


@pytest.mark.parametrize("prompt", [[], ["a", "b"], [[1], [2]], ["a", 1], [-1], [1 << 40], [[]], None, 5])
async def test_any_other_prompt_is_refused(door: Door, prompt: Any) -> None:
    response = await door.post(COMPLETE, {"model": "tiny", "prompt": prompt})
    assert response.status == 400
    assert response.error["param"].startswith("prompt")


async def test_old_logprobs_have_offsets_that_go_on_through_a_stream(door: Door) -> None:
    one, two = TokenLogprob("Hi", b"Hi", -0.5), TokenLogprob(" you", b" you", -1.0)
    door.script.events = [Delta(text="Hi", logprobs=(one,)), Delta(text=" you", logprobs=(two,)), Finished(0, "stop")]
    body = {"model": "tiny", "prompt": "x", "logprobs": 0}
    whole = (await door.post(COMPLETE, body)).json["choices"][0]["logprobs"]
    assert (whole["tokens"], whole["text_offset"]) == (["Hi", " you"], [0, 2])
    found = chunks((await door.post(COMPLETE, {**body, "stream": True})).body)
    assert [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in found[:2]] == [[0], [2]]


async def test_echo_with_logprobs_is_refused_and_best_of_too(door: Door) -> None:
    for change in ({"echo": True, "logprobs": 1}, {"best_of": 3}):
        assert (await door.post(COMPLETE, {"model": "tiny", "prompt": "x", **change})).status == 400
    assert (await door.post(COMPLETE, {"model": "tiny", "prompt": "x", "best_of": 1})).status == 200


async def test_an_embedding_is_the_same_as_numbers_and_as_base64(door: Door) -> None:
    door.script.vectors = (struct.pack("<2f", 0.25, -1.5),)
    body = {"model": "tiny", "input": ["a", "b"]}
    floats = (await door.post(EMBED, body)).json
    assert [one["embedding"] for one in floats["data"]] == [[0.25, -1.5]] * 2
    assert [one["index"] for one in floats["data"]] == [0, 1]
    assert floats["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    coded = (await door.post(EMBED, {**body, "encoding_format": "base64"})).json
    assert struct.unpack("<2f", base64.b64decode(coded["data"][0]["embedding"])) == (0.25, -1.5)


@pytest.mark.parametrize("inputs", [[], "", [""], ["a", 1], [[]], ["a", [1]], [-1], ["x"] * 2049, None])
async def test_an_unusable_input_is_refused(door: Door, inputs: Any) -> None:
    response = await door.post(EMBED, {"model": "tiny", "input": inputs})
    assert response.status == 400
    assert response.error["param"].startswith("input")


async def test_inputs_may_be_tokens(door: Door) -> None:
    for inputs, asked in (([1, 2], ((1, 2),)), ([[1], [2]], ((1,), (2,)))):
        await door.post(EMBED, {"model": "tiny", "input": inputs})
        assert door.script.asked[-1].inputs == asked  # type: ignore[union-attr]


async def test_models_are_listed_and_shown_by_name_alias_and_digest(door: Door) -> None:
    listed = (await door.get("/v1/models")).json
    assert [(model["id"], model["object"]) for model in listed["data"]] == [("tiny", "model")]
    assert listed["data"][0]["created"] == 1_700_000_000
    for name in ("tiny", "default", MODEL.digest.replace(":", "%3A")):
        shown = (await door.get(f"/v1/models/{name}")).json
        assert (shown["id"], shown["catena"]["digest"]) == ("tiny", MODEL.digest)
    missing = await door.get("/v1/models/nope")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


async def test_the_configured_model_is_shown_with_the_alias_default(make_door: Callable[..., Door]) -> None:
    door = make_door(default_model="org/tiny:1")
    row = Row("org/tiny:1", MODEL.digest, (), MODEL.manifest)
    other = Row("other", "sha256:" + "cd" * 32, (), MODEL.manifest)
    door.app.services = msgspec.structs.replace(door.app.services, models=lambda: [other, row])
    listed = (await door.get("/v1/models")).json["data"]
    assert [(one["id"], one["catena"]["aliases"]) for one in listed] == [("other", []), ("org/tiny:1", ["default"])]
    assert (await door.get("/v1/models/default")).json["id"] == "org/tiny:1"


@pytest.mark.parametrize("name", ["org/tiny:1", "a b", "100%", "模型", "x/../y", "a?b#c"])
@pytest.mark.parametrize("safe", ["", "/:"])
async def test_a_model_is_found_by_any_name_percent_encoded(door: Door, name: str, safe: str) -> None:
    row = Row(name, MODEL.digest, (), MODEL.manifest)
    door.app.services = msgspec.structs.replace(door.app.services, models=lambda: [row])
    response = await door.get("/v1/models/" + quote(name, safe=safe))
    assert response.status == 200
    assert response.json["id"] == name


async def test_receipts_are_listed_shown_proved_and_traced(door: Door) -> None:
    receipt = door.log.receipts[0]
    listed = (await door.get("/catena/v1/receipts?limit=2")).json
    assert [row["receipt"] for row in listed["receipts"]] == list(door.log.receipts[::-1])
    shown = await door.get(f"/catena/v1/receipts/{receipt}")
    assert shown.json["opened"]["receipt"] == receipt
    assert shown.json["checkpoint"] == CHECKPOINT
    assert shown.headers["catena-receipt"] == receipt
    assert (await door.get(f"/catena/v1/receipts/{receipt}/proof")).json["receipt"] == receipt
    assert (await door.get(f"/catena/v1/receipts/{receipt}/trace")).json["ok"] is True
    assert (await door.get("/catena/v1/checkpoint")).body.decode() == CHECKPOINT


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=%D9%A1"])
async def test_a_limit_is_a_number_within_bounds(door: Door, query: str) -> None:
    response = await door.get(f"/catena/v1/receipts?{query}")
    assert (response.status, response.error["param"]) == (400, "limit")


@pytest.mark.parametrize("receipt", ["x", "rcpt_" + "0" * 26, "..%2F..%2Fkeys", "rcpt_" + "u" * 26])
async def test_what_is_no_receipt_is_not_found(door: Door, receipt: str) -> None:
    assert (await door.get(f"/catena/v1/receipts/{receipt}")).status == 404


async def test_readiness_ends_when_the_gateway_drains_and_health_does_not(door: Door) -> None:
    assert (await door.get("/readyz")).status == 200
    door.app.drain()
    assert (await door.get("/readyz")).status == 503
    assert (await door.get("/healthz")).status == 200


async def test_metrics_count_requests_times_and_tokens_and_no_content(door: Door) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a secret question"}]}
    await door.post("/v1/chat/completions", body)
    text = (await door.get("/metrics")).body.decode()
    assert 'catena_reach_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert 'catena_reach_tokens_total{model="tiny",kind="completion"}' in text
    assert "catena_reach_first_token_seconds_bucket" in text
    assert "secret" not in text


async def test_beyond_loopback_metrics_take_a_key_with_their_scope(make_door: Callable[..., Door]) -> None:
    door = make_door(key=True, host="192.168.1.4")
    _, right = door.access.add("prometheus", ["metrics"])
    _, wrong = door.access.add("laptop")
    here: Any = {"server": ("192.168.1.4", 7411)}
    for key, status in ((right, 200), (wrong, 401)):
        headers = {"host": "192.168.1.4", "authorization": f"Bearer {key}"}
        assert (await door.get("/metrics", headers=headers, **here)).status == status


async def test_an_answer_tells_where_its_time_went(door: Door) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    timing = (await door.post("/v1/chat/completions", body)).headers["server-timing"]
    assert "prefill;dur=10.00" in timing
    assert "decode;dur=20.00" in timing


async def test_usage_chunk_of_a_completion_has_no_choices(door: Door) -> None:
    door.script.events = [Delta(text="x"), Finished(0, "stop"), Usage(1, 1)]
    body = {"model": "tiny", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    found = chunks((await door.post(COMPLETE, body)).body)
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 2
