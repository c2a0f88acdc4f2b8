"""What the official Triton client must find beside inference: health, metadata, statistics, repository, errors."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx2
import numpy
import pytest
import tritonclient.http as triton
from tests.clients.conftest import requirement
from tests.clients.triton.conftest import MODELS, Server, given, rows
from tests.conftest import catena

HEALTH, METADATA, STATISTICS, REPOSITORY, ERRORS, GENERATE = (
    "health",
    "metadata",
    "statistics",
    "repository",
    "errors",
    "generate",
)
Client = triton.InferenceServerClient


@requirement("H01", HEALTH, "`is_server_live` and `is_server_ready` are true")
def test_health(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@requirement("H02", HEALTH, "`is_model_ready` is true for a stored model, by version too, and false for another")
def test_model_ready(client: Client) -> None:
    assert client.is_model_ready("net")
    assert client.is_model_ready("net", "1")
    assert not client.is_model_ready("net", "2")
    assert not client.is_model_ready("nosuch")


@requirement("M01", METADATA, "`get_server_metadata` names server, version and extensions")
def test_server_metadata(client: Client) -> None:
    found = client.get_server_metadata()
    assert found["name"] == "catena"
    assert {"binary_tensor_data", "statistics"} <= set(found["extensions"])


@requirement("M02", METADATA, "`get_model_metadata` gives names, types and shapes, -1 where a length varies")
def test_model_metadata(client: Client) -> None:
    found = client.get_model_metadata("net")
    assert (found["name"], found["versions"], found["platform"]) == ("net", ["1"], "onnxruntime_onnx")
    assert [(one["name"], one["datatype"], one["shape"]) for one in found["inputs"]] == [("x", "FP32", [-1, 4])]
    assert [(one["name"], one["datatype"], one["shape"]) for one in found["outputs"]] == [
        ("p", "FP32", [-1, 3]),
        ("label", "INT64", [-1]),
    ]


@requirement("M03", METADATA, "units and the manifest's digest stand under `parameters`")
def test_units(client: Client) -> None:
    found = client.get_model_metadata("net")
    assert found["inputs"][0]["parameters"] == {"unit": "K"}
    assert found["parameters"]["digest"].startswith("sha256:")


@requirement("M04", METADATA, "a model answers to its manifest digest too, and the answer says its name")
def test_digest(client: Client) -> None:
    digest = client.get_model_metadata("net")["parameters"]["digest"]
    assert client.infer(digest, [given("x", rows())]).get_response()["model_name"] == "net"


@requirement("M05", METADATA, "`get_model_config` gives the signature as a configuration")
def test_config(client: Client) -> None:
    found = client.get_model_config("words")
    assert found["input"] == [{"name": "x0", "data_type": "TYPE_STRING", "dims": [-1, -1]}]


@requirement("S01", STATISTICS, "`get_inference_statistics` counts requests, rows and runs, with durations")
def test_statistics(client: Client) -> None:
    before = client.get_inference_statistics("net")["model_stats"][0]
    for _ in range(4):
        client.infer("net", [given("x", rows(3))])
    after = client.get_inference_statistics("net", "1")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 12
    assert after["execution_count"] - before["execution_count"] == 4
    success = after["inference_stats"]["success"]
    assert success["count"] - before["inference_stats"]["success"]["count"] == 4
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert success["ns"] >= sum(after["inference_stats"][part]["ns"] for part in parts) > 0
    assert 3 in [one["batch_size"] for one in after["batch_stats"]]


@requirement("S02", STATISTICS, "what failed is counted as failed")
def test_failures(client: Client) -> None:
    before = client.get_inference_statistics("lookup")["model_stats"][0]["inference_stats"]["fail"]["count"]
    with pytest.raises(triton.InferenceServerException):
        client.infer("lookup", [given("i", numpy.array([99], numpy.int64))])
    after = client.get_inference_statistics("lookup")["model_stats"][0]["inference_stats"]["fail"]["count"]
    assert after == before + 1


@requirement("S03", STATISTICS, "without a name the statistics of every model come")
def test_all_statistics(client: Client) -> None:
    names = {one["name"] for one in client.get_inference_statistics()["model_stats"]}
    assert set(MODELS) <= names


@requirement("S04", STATISTICS, "requests computed together count one run")
def test_runs(server: Server, client: Client) -> None:
    before = client.get_inference_statistics("net")["model_stats"][0]

    def ask() -> None:
        with server.client() as own:
            for _ in range(20):
                own.infer("net", [given("x", rows())])

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    after = client.get_inference_statistics("net")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 320
    assert 0 < after["execution_count"] - before["execution_count"] < 320


@requirement("R01", REPOSITORY, "`get_model_repository_index` lists every model with its state")
def test_index(client: Client) -> None:
    client.infer("net", [given("x", rows())])
    found = {one["name"]: one for one in client.get_model_repository_index()}
    assert set(MODELS) <= set(found)
    assert (found["net"]["state"], found["net"]["version"]) == ("READY", "1")


@requirement("R02", REPOSITORY, "`load_model` brings a model into memory, `unload_model` takes it out")
def test_load_and_unload(client: Client) -> None:
    def state() -> str:
        return next(one["state"] for one in client.get_model_repository_index() if one["name"] == "halves")

    client.load_model("halves")
    assert state() == "READY"
    client.unload_model("halves")
    for _ in range(500):
        if state() == "UNAVAILABLE":
            break
    assert state() == "UNAVAILABLE"
    assert client.is_model_ready("halves")


@requirement("R03", REPOSITORY, "a model that was unloaded is loaded again by the first who asks")
def test_asked_after_unload(client: Client) -> None:
    client.unload_model("halves", unload_dependents=True)
    assert client.infer("halves", [given("x0", numpy.ones((1, 1), numpy.float16))]).as_numpy("y0").tolist() == [[1]]


@requirement("R04", REPOSITORY, "loading with a configuration or files of the client's is refused")
def test_load_with_configuration(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException, match="config is not supported"):
        client.load_model("net", config='{"max_batch_size": 4}')


@requirement("R05", REPOSITORY, "a model that is not stored cannot be loaded")
def test_load_unknown(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException, match="no such model"):
        client.load_model("nosuch")


def refused(client: Client, *inputs: triton.InferInput, model: str = "net") -> tuple[str, str]:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(model, list(inputs))
    return caught.value.status(), caught.value.message()


@requirement("E01", ERRORS, "an unknown model is 404")
def test_unknown_model(client: Client) -> None:
    assert refused(client, given("x", rows()), model="nosuch")[0] == "404"


@requirement("E02", ERRORS, "a wrong data type is 400 and names both")
def test_wrong_type(client: Client) -> None:
    status, message = refused(client, given("x", rows().astype(numpy.float64)))
    assert (status, message) == ("400", "input x is of type float32, not float64")


@requirement("E03", ERRORS, "a wrong shape is 400 and says the right one")
def test_wrong_shape(client: Client) -> None:
    for shape in ((1, 5), (4,), (1, 1, 4)):
        status, message = refused(client, given("x", numpy.zeros(shape, numpy.float32)))
        assert status == "400"
        assert "it takes [-1, 4]" in message


@requirement("E04", ERRORS, "an unknown, a missing and a doubled input are each 400")
def test_wrong_inputs(client: Client) -> None:
    assert "input x is missing; y is not one" in refused(client, given("y", rows()))[1]
    assert "x is missing" in refused(client)[1]
    assert "twice" in refused(client, given("x", rows()), given("x", rows()))[1]


@requirement("E05", ERRORS, "a negative length in a shape is 400")
def test_negative_shape(client: Client) -> None:
    one = triton.InferInput("x", [1, 4], "FP32")
    one.set_data_from_numpy(rows())
    one.set_shape([-1, -4])
    status, message = refused(client, one)
    assert status == "400" and "negative" in message


@requirement("E06", ERRORS, "data that do not fill the shape are 400")
def test_short_data(client: Client) -> None:
    one = triton.InferInput("x", [1, 4], "FP32")
    one.set_data_from_numpy(rows())
    one.set_shape([2, 4])
    assert refused(client, one)[0] == "400"


@requirement("E07", ERRORS, "values that the model cannot take are 400, and nothing of them is quoted")
def test_values(client: Client) -> None:
    status, message = refused(client, given("i", numpy.array([987654], numpy.int64)), model="lookup")
    assert status == "400" and "987654" not in message


@requirement("E08", ERRORS, "shared memory is refused")
def test_shared_memory(client: Client) -> None:
    one = triton.InferInput("x", [1, 4], "FP32")
    one.set_shared_memory("region", 16)
    assert "memory is not shared" in refused(client, one)[1]


@requirement("E09", ERRORS, "compressed bodies are refused with 415")
def test_compression(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("net", [given("x", rows())], request_compression_algorithm="gzip")
    assert caught.value.status() == "415"


@requirement("E10", ERRORS, "a model that generates does not predict, and says so")
def test_generating_model(client: Client) -> None:
    status, message = refused(client, given("text_input", numpy.array(["hi"], dtype=object)), model="echo")
    assert status == "400" and "echo does not predict" in message


@requirement("E11", ERRORS, "a wrong key of ours is 401, and one without the scope `manage` cannot load: 403")
def test_keys(server: Server) -> None:
    made = catena(server.home, "keys", "add", "asker", "--scope", "ask", "--json")
    assert made.returncode == 0, made.stderr
    right = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    wrong = {"Authorization": f"Bearer ctn_{'0' * 8}_{'0' * 64}"}
    with server.client() as client:
        assert client.infer("net", [given("x", rows())], headers=right).as_numpy("p").shape == (1, 3)
        for headers, status in ((wrong, "401"), (right, "403")):
            with pytest.raises(triton.InferenceServerException) as caught:
                client.load_model("net", headers=headers)
            assert caught.value.status() == status


@requirement("G01", GENERATE, "`generate` continues a text with a model that generates")
def test_generate(server: Server) -> None:
    body = {"text_input": "one two three", "parameters": {"max_tokens": 3}, "id": "9"}
    answer = server.post("/v2/models/echo/generate", body)
    found = answer.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("echo", "1", "9")
    assert found["text_output"].split() == ["one", "two", "three"]
    assert answer.headers["catena-receipt"].startswith("rcpt_")


@requirement("G02", GENERATE, "`generate_stream` sends the same text in events, each a JSON object")
def test_generate_stream(server: Server) -> None:
    body = {"text_input": "one two three", "max_tokens": 3}
    answer = server.post("/v2/models/echo/generate_stream", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "".join(one["text_output"] for one in events).split() == ["one", "two", "three"]
    assert len(events) >= 3


@requirement("G03", GENERATE, "a model that predicts does not generate, and says so")
def test_generate_with_a_predictor(server: Server) -> None:
    answer = server.post("/v2/models/net/generate", {"text_input": "hi"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@requirement("G04", GENERATE, "parameters that cannot be honoured are refused, unknown ones with the nearest name")
def test_generate_parameters(server: Server) -> None:
    for body in ({"bad_words": ["x"]}, {"max_token": 3}, {"temperature": 9}):
        answer: Any = server.post("/v2/models/echo/generate", {"text_input": "hi", **body})
        assert answer.status_code == 400
    assert "max_tokens" in server.post("/v2/models/echo/generate", {"text_input": "", "max_token": 1}).json()["error"]


@requirement("H03", HEALTH, "health needs no key and leaves no record")
def test_health_without_key(server: Server) -> None:
    answer = httpx2.get(server.gateway.url + "/v2/health/ready", timeout=10)
    assert (answer.status_code, answer.json()) == (200, {"ready": True})
    assert "catena-receipt" not in answer.headers
