"""The Open Inference Protocol: texts through generate_stream, arrays through infer, in JSON and as binary data."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from tests.run.dialects.playing import play, recorded

from catena.core.errors import NetworkError, UnsupportedError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbedRequest,
    Finished,
    Image,
    Message,
    OutputFormat,
    PredictRequest,
    Sampling,
    Tensor,
    Text,
    Tool,
)
from catena.run.dialects.open_inference import dialect

PROMPT = CompletionRequest("m", "Once")
ARRAYS = PredictRequest(
    "m",
    (
        Tensor("x", "FP32", (2, 2), struct.pack("<4f", 1, 2, 3, 4)),
        Tensor("t", "BYTES", (2,), b"\x02\x00\x00\x00hi\x00\x00\x00\x00"),
    ),
    ("y",),
)


def test_a_text_and_its_sampling_become_one_text_and_flat_parameters() -> None:
    sampling = Sampling(9, 0.5, 0.9, 3, 0.1, 0.2, 0.3, 1.1, 7, ("END",), ignore_eos=True)
    out = dialect.generate(CompletionRequest("m", "Once", sampling, echo=True), "org/m v1")
    assert out.path == "/v2/models/org%2Fm%20v1/generate_stream" and out.lost == ()
    body = msgspec.json.decode(out.body)
    assert body["text_input"] == "Once"
    assert body["parameters"] == {
        **{"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 7},
        **{"presence_penalty": 0.2, "frequency_penalty": 0.3, "repetition_penalty": 1.1},
        **{"stop": "END", "ignore_eos": True, "exclude_input_in_output": False},
    }


def test_one_question_of_a_user_can_be_asked_and_its_role_is_named_as_lost() -> None:
    out = dialect.generate(ChatRequest("m", (Message("user", (Text("Hi "), Text("you"))),), think=True), "m")
    assert msgspec.json.decode(out.body) == {"text_input": "Hi you", "parameters": {}}
    assert out.lost == ("think", "messages.role")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("system", (Text("a"),)), Message("user", (Text("b"),)))},
        {"messages": (Message("user", (Image(b"\x89PNG", "image/png"),)),)},
        {"tools": (Tool("f"),)},
        {"output": OutputFormat("json")},
        {"output": OutputFormat("schema", {})},
        {"sampling": Sampling(num_choices=2)},
        {"sampling": Sampling(logprobs=0)},
        {"sampling": Sampling(stop=("a", "b"))},
        {"adapters": {"a": 1.0}},
    ],
)
def test_more_than_one_text_is_refused(change: dict[str, Any]) -> None:
    request = ChatRequest("m", (Message("user", (Text("Hi"),)),))
    with pytest.raises(UnsupportedError, match="the open_inference dialect cannot carry"):
        dialect.generate(msgspec.structs.replace(request, **change), "m")


@pytest.mark.parametrize("change", [{"prompt": (1, 2)}, {"suffix": "end"}])
def test_token_ids_and_a_suffix_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        dialect.generate(msgspec.structs.replace(PROMPT, **change), "m")


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_pieces_stream_and_the_end_of_the_body_is_the_end(size: int) -> None:
    events = list(play(dialect, PROMPT, recorded("open_inference_text.sse"), size=size))
    assert events == [Delta(text="Hello"), Delta(text=" world"), Finished(0, "stop")]


def test_an_error_inside_a_stream_comes_after_what_was_said() -> None:
    events = play(dialect, PROMPT, recorded("open_inference_error.sse"))
    assert next(events) == Delta(text="Half")
    with pytest.raises(NetworkError):
        next(events)


@pytest.mark.parametrize("body", [b"data: x\n\n", b"data: [1]\n\n", b'data: {"text_output": 5}\n\n'])
def test_a_malformed_answer_is_no_answer(body: bytes) -> None:
    with pytest.raises(NetworkError):
        list(play(dialect, PROMPT, body))


def test_arrays_go_out_as_binary_data_after_the_json() -> None:
    out = dialect.predict(ARRAYS, "m")
    num_json = int(out.headers["inference-header-content-length"])
    head = msgspec.json.decode(out.body[:num_json])
    assert out.path == "/v2/models/m/infer" and out.headers["content-type"] == "application/octet-stream"
    assert head == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
            {"name": "t", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        ],
        "outputs": [{"name": "y"}],
        "parameters": {"binary_data_output": True},
    }
    assert out.body[num_json:] == ARRAYS.inputs[0].data + bytes(ARRAYS.inputs[1].data)


def test_arrays_go_out_in_json_where_the_server_reads_nothing_else() -> None:
    plain = dialect.adapted(["json_tensors"])
    body = msgspec.json.decode(plain.predict(ARRAYS, "m").body)
    assert [one["data"] for one in body["inputs"]] == [[1, 2, 3, 4], ["hi", ""]] and "parameters" not in body
    nan = struct.pack("<f", float("nan"))
    for dtype, data in (("BF16", b"\x00\x00"), ("FP32", nan), ("BYTES", b"\x01\x00\x00\x00\xff")):
        with pytest.raises(UnsupportedError):
            plain.predict(PredictRequest("m", (Tensor("x", dtype, (1,), data),)), "m")


def test_arrays_come_back_in_json_and_as_binary_data_in_the_order_asked() -> None:
    head = msgspec.json.encode(
        {
            "model_name": "m",
            "outputs": [
                {"name": "z", "datatype": "INT64", "shape": [2, 1], "data": [[5], [6]], "parameters": {"unit": "W"}},
                {"name": "y", "datatype": "FP16", "shape": [2], "parameters": {"binary_data_size": 4}},
                {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["é"]},
            ],
        }
    )
    headers = {"inference-header-content-length": str(len(head))}
    request = msgspec.structs.replace(ARRAYS, outputs=("y", "z", "s"))
    y, z, s = dialect.predicted(head + b"\x00\x3c\x00\x40", headers, request).outputs
    assert (y.dtype, bytes(y.data), y.unit) == ("FP16", b"\x00\x3c\x00\x40", "1")
    assert (z.shape, struct.unpack("<2q", z.data), z.unit) == ((2, 1), (5, 6), "W")
    assert bytes(s.data) == b"\x02\x00\x00\x00\xc3\xa9"


@pytest.mark.parametrize(
    ("output", "rest"),
    [
        ({"datatype": "FP32", "shape": [2], "data": [1]}, b""),
        ({"datatype": "FP32", "shape": [2], "data": ["a", "b"]}, b""),
        ({"datatype": "UINT8", "shape": [1], "data": [256]}, b""),
        ({"datatype": "FP99", "shape": [1], "data": [1]}, b""),
        ({"datatype": "BF16", "shape": [1], "data": [1]}, b""),
        ({"datatype": "FP32", "shape": [-1], "data": []}, b""),
        ({"datatype": "FP32", "shape": [1]}, b""),
        ({"datatype": "BYTES", "shape": [1], "data": [5]}, b""),
        ({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 8}}, b"1234"),
        ({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}, b"12345"),
        ({"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4}}, b"\x09\x00\x00\x00"),
        ({"datatype": "FP32", "shape": [1 << 40, 1 << 40], "parameters": {"binary_data_size": 4}}, b"1234"),
    ],
)
def test_arrays_that_are_not_what_they_say_are_no_answer(output: dict[str, Any], rest: bytes) -> None:
    head = msgspec.json.encode({"outputs": [{"name": "y", **output}]})
    with pytest.raises(NetworkError):
        dialect.predicted(head + rest, {"inference-header-content-length": str(len(head))}, ARRAYS)


def test_a_missing_output_or_a_wrong_length_is_no_answer() -> None:
    with pytest.raises(NetworkError):
        dialect.predicted(b'{"outputs":[]}', {}, ARRAYS)
    for length in ("99", "-1", "x"):
        with pytest.raises(NetworkError):
            dialect.predicted(b'{"outputs":[]}', {"inference-header-content-length": length}, ARRAYS)


def test_models_are_listed_once_by_the_repository_and_vectors_are_refused() -> None:
    out = dialect.models()
    assert (out.method, out.path, out.body) == ("POST", "/v2/repository/index", b"{}")
    assert dialect.listed(b'[{"name":"a","version":"1","state":"READY"},{"name":"a","version":"2"}]') == ("a",)
    assert dialect.headers("k") == {"authorization": "Bearer k"}
    assert isinstance(dialect.error(500, {}, b'{"error":"x"}'), NetworkError)
    with pytest.raises(UnsupportedError):
        dialect.embed(EmbedRequest("m", ("a",)), "m")
