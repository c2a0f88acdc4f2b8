"""What the server and its models say of themselves, statistics, the repository, and models that generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from tests.reach.gateway.conftest import MODEL, PREDICTOR, Door, Row

from catena.core.errors import EngineError
from catena.core.messages import CompletionRequest, Delta, PredictRequest
from catena.reach.ticket import Caller

pytestmark = pytest.mark.anyio
BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -2]}]}


class Memory(msgspec.Struct):
    """The sessions in memory, by digest."""

    digests: list[str] = []

    async def load(self, name: str, caller: Caller) -> Any:
        self.digests.append(PREDICTOR.digest)

    def keep(self, digest: str, idle_s: float | None) -> None:
        assert idle_s == 0
        self.digests.remove(digest)

    def loaded(self) -> Sequence[Any]:
        return [Row("", digest, (), PREDICTOR.manifest) for digest in self.digests]


@pytest.fixture
def door(make_door: Callable[..., Door]) -> Door:
    made = make_door(default_model="tiny")
    rows = [Row(one.name, one.digest, (), one.manifest) for one in (MODEL, PREDICTOR)]
    made.app.services = msgspec.structs.replace(made.app.services, models=lambda: rows, sessions=Memory())
    return made


async def test_health_needs_no_key_and_says_when_it_stops(make_door: Callable[..., Door]) -> None:
    door = make_door(key=True)
    door.access.is_required = True
    assert (await door.get("/v2/health/live")).json == {"live": True}
    assert (await door.get("/v2/health/ready")).json == {"ready": True}
    door.app.drain()
    response = await door.get("/v2/health/ready")
    assert (response.status, list(response.json)) == (503, ["error"])
    assert (await door.get("/v2")).status == 401


async def test_the_server_names_its_extensions(door: Door) -> None:
    found = (await door.get("/v2")).json
    assert found["name"] == "catena"
    assert {"binary_tensor_data", "statistics", "model_repository", "classification"} <= set(found["extensions"])


async def test_a_model_states_its_signature_with_units(door: Door) -> None:
    for path in ("/v2/models/net", "/v2/models/net/versions/1", f"/v2/models/{PREDICTOR.digest}"):
        found = (await door.get(path)).json
        assert (found["name"], found["versions"]) == ("net", ["1"])
        assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "parameters": {"unit": "K"}}]
        assert found["outputs"][0]["parameters"] == {"unit": "W"}
        assert found["parameters"]["digest"] == PREDICTOR.digest


async def test_a_model_that_generates_takes_and_gives_text(door: Door) -> None:
    found = (await door.get("/v2/models/default")).json
    assert found["name"] == "tiny"
    assert found["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [1]}]
    assert found["outputs"] == [{"name": "text_output", "datatype": "BYTES", "shape": [1]}]


async def test_configuration_and_readiness(door: Door) -> None:
    config = (await door.get("/v2/models/net/config")).json
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]}]
    assert (await door.get("/v2/models/net/ready")).json == {"name": "net", "ready": True}
    for path in ("/v2/models/nosuch/ready", "/v2/models/net/versions/9/ready", "/v2/models/nosuch"):
        response = await door.get(path)
        assert (response.status, list(response.json)) == (404, ["error"])


async def test_statistics_count_what_was_asked(door: Door) -> None:
    for _ in range(3):
        assert (await door.post("/v2/models/net/infer", BODY)).status == 200
    door.script.events = [EngineError("broke")]
    assert (await door.post("/v2/models/net/infer", BODY)).status == 500
    assert (await door.post("/v2/models/nosuch/infer", BODY)).status == 404
    (found,) = (await door.get("/v2/models/net/stats")).json["model_stats"]
    assert (found["inference_count"], found["execution_count"]) == (3, 3)
    stats = found["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"], stats["compute_infer"]["count"]) == (3, 1, 3)
    assert stats["success"]["ns"] > stats["compute_input"]["ns"] > 0
    assert found["batch_stats"][0]["compute_infer"]["count"] == 3
    assert found["last_inference"] > 1_700_000_000_000
    everything = (await door.get("/v2/models/stats")).json["model_stats"]
    assert [one["name"] for one in everything] == ["tiny", "net"]


async def test_the_repository_lists_loads_and_unloads(door: Door) -> None:
    index = (await door.post("/v2/repository/index", b"")).json
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("tiny", "1", "UNAVAILABLE"),
        ("net", "1", "UNAVAILABLE"),
    ]
    assert (await door.post("/v2/repository/models/net/load", {})).json == {}
    ready = (await door.post("/v2/repository/index", {"ready": True})).json
    assert ready == [{"name": "net", "version": "1", "state": "READY", "reason": ""}]
    unloading = {"parameters": {"unload_dependents": True}}
    assert (await door.post("/v2/repository/models/net/unload", unloading)).json == {}
    assert (await door.post("/v2/repository/index", {"ready": True})).json == []
    for path, body in (("nosuch/load", {}), ("net/load", {"parameters": {"config": "{}"}}), ("net/load", {"x": 1})):
        response = await door.post(f"/v2/repository/models/{path}", body)
        assert response.status in (400, 404) and list(response.json) == ["error"]


async def test_loading_needs_the_scope_manage(door: Door) -> None:
    door.access.is_required = True
    _, key = door.access.add("asker", ("ask",))
    headers = {"authorization": f"Bearer {key}"}
    assert (await door.post("/v2/repository/models/net/load", {}, headers=headers)).status == 403
    assert (await door.post("/v2/repository/index", {}, headers=headers)).status == 200


async def test_generate_answers_with_the_text(door: Door) -> None:
    body = {"text_input": "Hi", "id": "7", "parameters": {"max_tokens": 5, "stop": ["x"]}, "temperature": 0}
    response = await door.post("/v2/models/tiny/generate", body)
    assert response.json == {"id": "7", "model_name": "tiny", "model_version": "1", "text_output": "Hello world"}
    asked = door.script.asked[0]
    assert isinstance(asked, CompletionRequest)
    assert (asked.prompt, asked.sampling.max_tokens, asked.sampling.temperature) == ("Hi", 5, 0)
    assert not asked.echo
    assert response.headers["catena-receipt"].startswith("rcpt_")


async def test_generate_stream_sends_each_piece_and_ends_with_the_error_when_cut(door: Door) -> None:
    response = await door.post("/v2/models/tiny/generate_stream", {"text_input": "Hi", "stream": True})
    pieces = [msgspec.json.decode(line[6:])["text_output"] for line in response.body.split(b"\n\n") if line]
    assert pieces == ["Hello", " world"]
    door.script.events = [Delta(text="Hel"), EngineError("broke")]
    response = await door.post("/v2/models/tiny/generate_stream", {"text_input": "Hi"})
    assert response.body.endswith(b'data: {"error":"broke"}\n\n')


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text_input": 1},
        {"text_input": "x", "temprature": 1},
        {"text_input": "x", "temperature": 3},
        {"text_input": "x", "top_p": 0},
        {"text_input": "x", "max_tokens": 0},
        {"text_input": "x", "stop": ["a"] * 5},
        {"text_input": "x", "bad_words": ["y"]},
        {"text_input": "x", "seed": 1, "parameters": {"seed": 1}},
    ],
)
async def test_generate_refuses_what_it_cannot_honour(door: Door, body: dict[str, Any]) -> None:
    response = await door.post("/v2/models/tiny/generate", body)
    assert (response.status, list(response.json)) == (400, ["error"])


async def test_the_error_of_an_unknown_field_names_the_nearest(door: Door) -> None:
    response = await door.post("/v2/models/net/infer", {**BODY, "output": []})
    assert response.json == {"error": "unknown parameter: output (hint: did you mean 'outputs'?)"}


async def test_infer_on_a_model_with_another_method_is_405(door: Door) -> None:
    response = await door.get("/v2/models/net/infer")
    assert (response.status, response.headers["allow"]) == (405, "OPTIONS, POST")
    assert not any(isinstance(one, PredictRequest) for one in door.script.asked)
