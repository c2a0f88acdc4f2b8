"""What the official Triton client must find when it asks models that predict."""

from __future__ import annotations

import threading
from typing import Any

import numpy
import pytest
import tritonclient.http as triton
from tests.clients.conftest import requirement
from tests.clients.triton.conftest import MODELS, Server, alone, given, rows

INFER, BINARY, TYPES, OUTPUTS, TOGETHER = "infer", "binary data", "data types", "outputs", "concurrency"
TRUTH = alone(MODELS["net"], x=rows(5))
Client = triton.InferenceServerClient


@requirement("I01", INFER, "`infer` gives what the library gives by itself, to the last bits")
def test_infer(client: Client) -> None:
    found = client.infer("net", [given("x", rows(5))])
    assert found.as_numpy("p") == pytest.approx(TRUTH["p"], rel=1e-6)
    assert found.as_numpy("label").tolist() == TRUTH["label"].tolist()


@requirement("I02", INFER, "the answer names model and version")
def test_names(client: Client) -> None:
    found = client.infer("net", [given("x", rows())]).get_response()
    assert (found["model_name"], found["model_version"]) == ("net", "1")


@requirement("I03", INFER, "`request_id` comes back as `id`, and no id means none")
def test_id(client: Client) -> None:
    assert client.infer("net", [given("x", rows())], request_id="a-7").get_response()["id"] == "a-7"
    assert "id" not in client.infer("net", [given("x", rows())]).get_response()


@requirement("I04", INFER, "`model_version` 1 is the newest, and another is not there")
def test_version(client: Client) -> None:
    assert client.infer("net", [given("x", rows())], model_version="1").as_numpy("p").shape == (1, 3)
    with pytest.raises(triton.InferenceServerException, match="no such version") as caught:
        client.infer("net", [given("x", rows())], model_version="2")
    assert caught.value.status() == "404"


@requirement("I05", INFER, "any number of rows goes through where the first dimension varies, none too")
def test_rows(client: Client) -> None:
    for num_rows in (0, 1, 2, 300):
        assert client.infer("net", [given("x", rows(num_rows))]).as_numpy("p").shape == (num_rows, 3)


@requirement("I06", INFER, "every answer carries a receipt, and its record is closed with engine and times")
def test_receipt(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}]}
    answer = server.post("/v2/models/net/infer", body)
    record = server.gateway.record(answer.headers["catena-receipt"])
    assert (record["outcome"], record["engine"].split()[0]) == ("complete", "onnx")
    assert record["timings"]["decode_s"] > 0
    assert record["answer_digest"].startswith("sha256:")


@requirement("I07", INFER, "units of the signature stand with the outputs, and a wrong unit of an input is refused")
def test_units(server: Server) -> None:
    one = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}
    good = server.post("/v2/models/net/infer", {"inputs": [{**one, "parameters": {"unit": "K"}}]})
    assert good.status_code == 200
    bad = server.post("/v2/models/net/infer", {"inputs": [{**one, "parameters": {"unit": "degC"}}]})
    assert (bad.status_code, bad.json()["error"]) == (400, "input x is in K, not in degC")


@requirement("I08", INFER, "parameters that are not honoured are named in `catena-warning`")
def test_warning(server: Server) -> None:
    body = {
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}],
        "parameters": {"priority": 2},
    }
    assert "priority ignored" in server.post("/v2/models/net/infer", body).headers["catena-warning"]


@requirement("I09", INFER, "`parameters` of the client that nobody knows are refused with the nearest name")
def test_unknown_parameter(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException, match=r"unknown parameter.*did you mean 'timeout'"):
        client.infer("net", [given("x", rows())], parameters={"timeouts": 5})


@requirement("I10", INFER, "a `timeout` and a `priority` of the client do no harm")
def test_client_wishes(client: Client) -> None:
    assert client.infer("net", [given("x", rows())], priority=1, timeout=1_000_000).as_numpy("p").shape == (1, 3)


@requirement("I11", INFER, "sequences are refused: no model here keeps a state")
def test_sequences(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException, match="sequence_id is not supported"):
        client.infer("net", [given("x", rows())], sequence_id=5, sequence_start=True)


@requirement("B01", BINARY, "JSON in and out, binary in and out, and both mixes give the same numbers")
@pytest.mark.parametrize("is_binary_in", [False, True])
@pytest.mark.parametrize("is_binary_out", [False, True])
def test_mixes(client: Client, is_binary_in: bool, is_binary_out: bool) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=is_binary_out) for name in ("p", "label")]
    found = client.infer("net", [given("x", rows(5), is_binary=is_binary_in)], outputs=wanted)
    assert found.as_numpy("p").astype(numpy.float32) == pytest.approx(TRUTH["p"], rel=1e-6)
    assert found.as_numpy("label").tolist() == TRUTH["label"].tolist()


@requirement("B02", BINARY, "one output may be binary and the other JSON")
def test_mixed_outputs(client: Client) -> None:
    wanted = [
        triton.InferRequestedOutput("p", binary_data=True),
        triton.InferRequestedOutput("label", binary_data=False),
    ]
    found = client.infer("net", [given("x", rows(5))], outputs=wanted)
    assert "data" in found.get_output("label")
    assert "data" not in found.get_output("p")
    assert found.as_numpy("p") == pytest.approx(TRUTH["p"], rel=1e-6)


@requirement("B03", BINARY, "binary and JSON inputs may stand beside one another")
def test_mixed_inputs(client: Client) -> None:
    inputs = [
        given(f"x{index}", numpy.ones((2, 2), dtype), is_binary=index % 2 == 0)
        for index, dtype in enumerate(("f4", "f8", "i8", "i4", "i1", "?"))
    ]
    found = client.infer("numbers", inputs)
    assert all(found.as_numpy(f"y{index}").tolist() == [[1, 1], [1, 1]] for index in range(6))


@requirement("B04", BINARY, "a large array, 4 MB, goes through unchanged")
def test_large(client: Client) -> None:
    values = numpy.random.default_rng(0).standard_normal((1000, 512))
    empty = [given(f"x{index}", numpy.zeros((0, 0), dtype)) for index, dtype in ((0, "f4"), (2, "i8"), (3, "i4"))]
    empty += [given("x4", numpy.zeros((0, 0), "i1")), given("x5", numpy.zeros((0, 0), "?"))]
    found = client.infer("numbers", [*empty, given("x1", values)], outputs=[triton.InferRequestedOutput("y1")])
    assert numpy.array_equal(found.as_numpy("y1"), values)


@requirement("B05", BINARY, "a body above the limit is refused with 413")
def test_too_large(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("net", [given("x", numpy.zeros((1_100_000, 4), numpy.float32))])
    assert caught.value.status() == "413"


NUMBERS: list[Any] = [
    ("x0", [[0.1, -numpy.inf], [numpy.nan, 3e38]], "f4"),
    ("x1", [[0.1, -1e300], [5e-324, numpy.inf]], "f8"),
    ("x2", [[-(2**63), 2**63 - 1], [0, 1]], "i8"),
    ("x3", [[-(2**31), 2**31 - 1], [0, 1]], "i4"),
    ("x4", [[-128, 127], [0, 1]], "i1"),
    ("x5", [[True, False], [False, True]], "?"),
]


@requirement("D01", TYPES, "FP32, FP64, INT64, INT32, INT8 and BOOL go through to the last bit, NaN and infinity too")
def test_numbers(client: Client) -> None:
    found = client.infer("numbers", [given(name, numpy.array(values, kind)) for name, values, kind in NUMBERS])
    for index, (_, values, kind) in enumerate(NUMBERS):
        assert found.as_numpy(f"y{index}").tobytes() == numpy.array(values, kind).tobytes()


@requirement("D02", TYPES, "FP16 goes through as binary data")
def test_halves(client: Client) -> None:
    values = numpy.array([[0.1, 65504.0]], numpy.float16)
    assert client.infer("halves", [given("x0", values)]).as_numpy("y0").tobytes() == values.tobytes()


@requirement("D03", TYPES, "BYTES carry texts of any length and language, as binary data and as JSON")
@pytest.mark.parametrize("is_binary", [False, True])
def test_words(client: Client, is_binary: bool) -> None:
    values = numpy.array([["chain", "", "链条"], ["a" * 5000, "🔗", "\n"]], dtype=object)
    wanted = [triton.InferRequestedOutput("y0", binary_data=is_binary)]
    found = client.infer("words", [given("x0", values, is_binary=is_binary)], outputs=wanted).as_numpy("y0")
    texts = [one.decode() if isinstance(one, bytes) else one for one in found.ravel()]
    assert texts == values.ravel().tolist()
    assert found.shape == (2, 3)


@requirement("D04", TYPES, "BYTES that are no UTF-8 are refused before the model sees them")
def test_no_text(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException, match="not UTF-8"):
        client.infer("words", [given("x0", numpy.array([[b"\xff"]], dtype=object))])


@requirement("D05", TYPES, "NaN and infinity in an output asked for as JSON are null, and the warning says so")
def test_nan_in_json(server: Server) -> None:
    one = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [3e38, 0, 0, 0]}
    answer = server.post("/v2/models/centred/infer", {"inputs": [one]})
    assert answer.json()["outputs"][0]["data"] == [0, 0, 0, 0]
    one["data"] = [3e38, -3e38, 0, 0]
    one["shape"], one["data"] = [2, 4], [3e38, 0, 0, 0, 3e38, 0, 0, 0]
    answer = server.post("/v2/models/centred/infer", {"inputs": [one]})
    assert None in answer.json()["outputs"][0]["data"]
    assert "NaN or infinity" in answer.headers["catena-warning"]


@requirement("O01", OUTPUTS, "without `outputs` all come, in the order of the signature")
def test_all_outputs(client: Client) -> None:
    found = client.infer("net", [given("x", rows())]).get_response()
    assert [one["name"] for one in found["outputs"]] == ["p", "label"]


@requirement("O02", OUTPUTS, "only the outputs asked for come, in the order asked")
def test_some_outputs(client: Client) -> None:
    for names in (["label"], ["label", "p"]):
        found = client.infer("net", [given("x", rows())], outputs=[triton.InferRequestedOutput(one) for one in names])
        assert [one["name"] for one in found.get_response()["outputs"]] == names


@requirement("O03", OUTPUTS, "`class_count` gives the likeliest classes as `value:index`, best first")
def test_classes(client: Client) -> None:
    found = client.infer("net", [given("x", rows(5))], outputs=[triton.InferRequestedOutput("p", class_count=2)])
    classes = found.as_numpy("p")
    assert classes.shape == (5, 2)
    best = [int(one.decode().split(":")[1]) for one in classes[:, 0]]
    assert best == TRUTH["label"].tolist()
    assert float(classes[0, 0].decode().split(":")[0]) == pytest.approx(TRUTH["p"][0].max(), abs=1e-6)


@requirement("O04", OUTPUTS, "an output that the model has not is refused, with those it has")
def test_unknown_output(client: Client) -> None:
    with pytest.raises(triton.InferenceServerException, match=r"no output q.*known: p, label"):
        client.infer("net", [given("x", rows())], outputs=[triton.InferRequestedOutput("q")])


@requirement("T01", TOGETHER, "32 callers at a time get each their own answer, equal to the same asked alone")
def test_concurrent(server: Server) -> None:
    asked = [rows(1 + index % 3, seed=index) for index in range(32)]
    expected = [alone(MODELS["net"], x=one)["p"] for one in asked]
    found: dict[int, Any] = {}

    def ask(index: int) -> None:
        with server.client() as client:
            for _ in range(5):
                found[index] = client.infer("net", [given("x", asked[index])]).as_numpy("p")

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 32
    for index, values in found.items():
        assert values == pytest.approx(expected[index], rel=1e-5, abs=1e-7)


@requirement("T02", TOGETHER, "a model whose rows depend on one another never sees two callers' rows in one run")
def test_rows_that_touch(server: Server) -> None:
    found: dict[int, Any] = {}

    def ask(index: int) -> None:
        values = numpy.array([[index] * 4, [index + 1] * 4], numpy.float32)
        with server.client() as client:
            found[index] = client.infer("centred", [given("x", values)]).as_numpy("y").tolist()

    threads = [threading.Thread(target=ask, args=(10 * index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(found.values()) == [[[-0.5] * 4, [0.5] * 4]] * 16


@requirement("T03", TOGETHER, "a caller whose values break a run hurts nobody who was computed with it")
def test_bad_neighbour(server: Server) -> None:
    found: dict[int, Any] = {}

    def ask(index: int) -> None:
        with server.client() as client:
            for _ in range(5):
                try:
                    answer = client.infer("lookup", [given("i", numpy.array([index % 4], numpy.int64))])
                    found[index] = answer.as_numpy("y").tolist()
                except triton.InferenceServerException as error:
                    found[index] = error.status()

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    table: list[Any] = [[[0, 1]], [[2, 3]], [[4, 5]], "400"]
    assert [found[index] for index in range(16)] == [table[index % 4] for index in range(16)]


@requirement("T04", TOGETHER, "`async_infer` gives the same as `infer`")
def test_async(server: Server) -> None:
    with server.client(concurrency=4) as client:
        waiting = [client.async_infer("net", [given("x", rows(5))]) for _ in range(8)]
        for one in waiting:
            assert one.get_result().as_numpy("p") == pytest.approx(TRUTH["p"], rel=1e-5)
