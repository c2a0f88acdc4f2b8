"""Our reading and writing of messages against the classes that protoc made for the official client, both ways."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import PREDICTOR
from tritonclient.grpc import service_pb2 as theirs

from catena.core.errors import CatenaError, InputError, TooLargeError, UnsupportedError
from catena.core.manifest import TensorSpec
from catena.core.messages import Tensor
from catena.core.messages.predict import DTYPES
from catena.reach.gateway.grpc import protobuf
from catena.reach.gateway.protocols.open_inference.grpc import answers, contents, requests
from catena.reach.gateway.protocols.open_inference.statistics import Counts
from catena.reach.gateway.protocols.open_inference.tensors import FORMS, joined

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ELEMENTS: dict[str, Any] = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1),
    "int64_contents": INT64,
    "uint_contents": st.integers(0, 2**32 - 1),
    "uint64_contents": st.integers(0, 2**64 - 1),
    "fp32_contents": st.floats(width=32, allow_nan=False),
    "fp64_contents": st.floats(allow_nan=False),
    "bytes_contents": st.binary(max_size=6),
}
VALUES: dict[str, Any] = {
    "bool_param": st.booleans(),
    "int64_param": INT64,
    "string_param": TEXT,
    "double_param": st.floats(allow_nan=False),
    "uint64_param": st.integers(0, 2**64 - 1),
}
TYPES = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@st.composite
def asked(draw: st.DrawFn) -> theirs.ModelInferRequest:
    """Any question."""
    found = theirs.ModelInferRequest(model_name=draw(TEXT), model_version=draw(TEXT), id=draw(TEXT))

    def put(parameters: Any) -> None:
        for name, kind in draw(st.dictionaries(TEXT, st.sampled_from(sorted(VALUES)), max_size=3)).items():
            setattr(parameters[name], kind, draw(VALUES[kind]))

    put(found.parameters)
    for _ in range(draw(st.integers(0, 3))):
        one = found.inputs.add(name=draw(TEXT), datatype=draw(TEXT), shape=draw(st.lists(INT64, max_size=4)))
        put(one.parameters)
        if draw(st.booleans()):
            kind = draw(st.sampled_from(sorted(ELEMENTS)))
            getattr(one.contents, kind).extend(draw(st.lists(ELEMENTS[kind], max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        put(found.outputs.add(name=draw(TEXT)).parameters)
    found.raw_input_contents.extend(draw(st.lists(st.binary(max_size=9), max_size=3)))
    return found


def parameters(given: Any) -> dict[str, Any]:
    """A map of parameters as we give it."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, kind) if kind else None
    return found


def check_same(data: bytes, ours: requests.Infer, theirs: Any) -> None:
    assert (ours.model, ours.version, ours.id) == (theirs.model_name, theirs.model_version, theirs.id)
    assert repr(ours.parameters) == repr(parameters(theirs.parameters)) or ours.parameters == parameters(
        theirs.parameters
    )
    assert [bytes(one) for one in ours.raw] == list(theirs.raw_input_contents)
    assert [one.name for one in ours.outputs] == [one.name for one in theirs.outputs]
    assert len(ours.inputs) == len(theirs.inputs)
    for one, other in zip(ours.inputs, theirs.inputs, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, tuple(other.shape))
        assert set(one.parameters) == set(other.parameters)
        for datatype, kind in TYPES.items():
            values = getattr(other.contents, kind)
            if len(other.contents.ListFields()) == 1 and values:
                try:
                    packed = contents.packed("x", datatype, data, one.contents)
                except InputError:  # a number too large for INT8 and the like
                    assert datatype in ("INT8", "INT16", "UINT8", "UINT16")
                    continue
                if datatype == "BYTES":
                    assert packed == joined(list(values))
                else:
                    form = f"<{len(values)}{FORMS[datatype]}"
                    assert packed == struct.pack(form, *values)


@settings(max_examples=100, deadline=None)
@given(asked())
def test_what_their_classes_write_is_read_the_same(message: theirs.ModelInferRequest) -> None:
    data = message.SerializeToString()
    check_same(data, requests.infer(data), message)


ODD = (b"\xff" * 10, b"\x0b\x0c", b"\x80" * 9 + b"\x01", b"\x8a\x01\x00", b"\0")


def broken(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(damaged) + 1)
        end = min(len(damaged), start + rng.randrange(6))
        match rng.randrange(4):
            case 0:
                damaged[start:end] = rng.randbytes(rng.randrange(4))
            case 1:
                del damaged[start:end]
            case 2:
                damaged[start:start] = damaged[start:end]
            case _:
                damaged[start:end] = rng.choice(
                    [b"\xff" * 10, b"\x0b\x0c", b"\x80" * 9 + b"\x01", b"\x8a\x01\x00", b"\0"]
                )
    return bytes(damaged)


@settings(max_examples=200, deadline=None)
@given(asked(), st.integers(0, 2**32))
def test_what_is_damaged_is_refused_by_both_or_read_the_same(message: theirs.ModelInferRequest, seed: int) -> None:
    data = broken(random.Random(seed), message.SerializeToString())
    try:
        ours = requests.infer(data)
    except CatenaError:
        ours = None
    try:
        other = theirs.ModelInferRequest.FromString(data)
    except DecodeError:
        other = None
    if other is None:
        # What is inside typed contents, we read only once the type is known.
        assert ours is None or any(one.contents for one in ours.inputs)
    else:
        assert ours is not None
        check_same(data, ours, other)


def test_unknown_fields_and_groups_are_passed_over() -> None:
    known = theirs.ModelInferRequest(model_name="net", id="7").SerializeToString()
    group = b"\x9b\x06" + b"\x0a\x01x" + b"\x9b\x06\x9c\x06" + b"\x9c\x06"
    for unknown in (b"\xa0\x06\x05", b"\xa2\x06\x03abc", b"\xa5\x06abcd", b"\xa1\x06abcdefgh", group):
        for data in (unknown + known, known + unknown):
            found = requests.infer(data)
            assert (found.model, found.id) == ("net", "7")


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"\x0a",
            b"\x0a\x05ab",
            b"\x0a\xff\xff\xff\xff\xff",
            b"\x0a\x02\xff\xfe",
            b"\x08" + b"\xff" * 11,
            b"\x0d\x01",
        ),
        *(b"\x00\x01", b"\x0e", b"\x0f", b"\x0b", b"\x0c", b"\x0b\x14", b"\x0b" * 200 + b"\x0c" * 200, b"\x80"),
    ],
)
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        theirs.ModelInferRequest.FromString(data)
    with pytest.raises(InputError):
        requests.infer(data)


def test_of_a_field_that_comes_twice_the_last_counts_and_messages_are_merged() -> None:
    first = theirs.ModelInferRequest.InferInputTensor(name="x", datatype="INT64")
    first.contents.int64_contents.extend([1, 2])
    second = theirs.ModelInferRequest.InferInputTensor(name="y")
    second.contents.int64_contents.extend([-3])
    inner = first.SerializeToString() + second.SerializeToString()
    data = protobuf.put(5, inner)
    (one,) = requests.infer(data).inputs
    assert one.name == "y"
    assert contents.packed("y", "INT64", data, one.contents) == struct.pack("<3q", 1, 2, -3)


def test_numbers_that_are_not_packed_are_read_too() -> None:
    data = protobuf.put(
        5, b"\x18\x03\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + protobuf.put(5, b"\x08\x05\x08\x00")
    )
    (one,) = requests.infer(data).inputs
    assert one.shape == (3, -1)
    assert contents.packed("x", "BOOL", data, one.contents) == b"\1\0"


def test_what_has_no_typed_form_or_does_not_fit_is_refused() -> None:
    data = protobuf.put(5, protobuf.put(5, protobuf.put(2, protobuf.varint(300))))
    (one,) = requests.infer(data).inputs
    with pytest.raises(InputError, match="out of the range of INT8"):
        contents.packed("x", "INT8", data, one.contents)
    with pytest.raises(InputError, match="not those of FP32"):
        contents.packed("x", "FP32", data, one.contents)
    with pytest.raises(UnsupportedError, match="raw_input_contents"):
        contents.packed("x", "FP16", data, one.contents)


def test_too_many_arrays_or_parameters_are_refused() -> None:
    with pytest.raises(TooLargeError):
        requests.infer(protobuf.put(5, b"") * (requests.MAX_TENSORS + 1))
    entries = b"".join([protobuf.put(4, protobuf.put(1, str(index))) for index in range(requests.MAX_PARAMETERS + 1)])
    with pytest.raises(TooLargeError):
        requests.infer(entries)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    count = draw(st.integers(0, 4))
    if dtype == "BYTES":
        data = joined(draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count)))
    elif dtype == "BOOL":
        data = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    else:
        size = count * DTYPES[dtype].num_bytes
        data = draw(st.binary(min_size=size, max_size=size))
    return Tensor(draw(TEXT), dtype, (count,), data, draw(st.sampled_from(["1", "", "K"])))


@settings(max_examples=100, deadline=None)
@given(st.lists(tensors(), max_size=3), st.booleans(), TEXT)
@example([Tensor("x", "FP16", (1,), b"\0\0"), Tensor("y", "INT8", (1,), b"\xff")], False, "")
def test_what_we_answer_their_classes_read(outputs: list[Tensor], is_raw: bool, id: str) -> None:
    told = {"a": "b", "c": False}
    data = b"".join(answers.inferred("net", "1", id, outputs, is_raw=is_raw, parameters=told))
    found = theirs.ModelInferResponse.FromString(data)
    assert (found.model_name, found.model_version, found.id) == ("net", "1", id)
    assert parameters(found.parameters) == told
    assert [(one.name, one.datatype, tuple(one.shape)) for one in found.outputs] == [
        (one.name, one.dtype, one.shape) for one in outputs
    ]
    assert [one.parameters["unit"].string_param for one in found.outputs] == [
        one.unit if one.unit == "K" else "" for one in outputs
    ]
    if is_raw or any(one.dtype in ("FP16", "BF16") for one in outputs):
        assert list(found.raw_output_contents) == [bytes(one.data) for one in outputs]
        return
    for one, ours in zip(found.outputs, outputs, strict=True):
        values = getattr(one.contents, TYPES[ours.dtype])
        if ours.dtype == "BYTES":
            assert joined(list(values)) == ours.data
        else:
            form = f"<{len(values)}{FORMS[ours.dtype]}"
            shown = struct.unpack(form, ours.data)
            assert list(values) == list(shown) or any(value != value for value in shown)


def test_statistics_and_metadata_are_read_by_their_classes() -> None:
    form = Counts().form("net")
    (row,) = theirs.ModelStatisticsResponse.FromString(answers.statistics([form])).model_stats
    assert (row.name, row.version, row.inference_stats.HasField("cache_miss")) == ("net", "1", True)
    ports = PREDICTOR.manifest.signature.inputs, (TensorSpec("t", "string", ()),)
    found = theirs.ModelMetadataResponse.FromString(answers.model("net", "1", "onnx", *ports))
    assert list(found.inputs[0].shape) == [-1, 2]
    assert (found.outputs[0].datatype, list(found.outputs[0].shape)) == ("BYTES", [])
    streamed = theirs.ModelStreamInferResponse.FromString(
        b"".join(answers.streamed(answers.inferred("net", "1", "7", (), is_raw=True), "broke"))
    )
    assert (streamed.error_message, streamed.infer_response.id) == ("broke", "7")
