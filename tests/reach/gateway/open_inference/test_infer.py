"""Inference over the wire in process: JSON and binary arrays, what is refused, and how; laws over random arrays."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import PREDICTOR, Door

from catena.core.errors import BusyError, EngineError
from catena.core.manifest import Signature, StoredModel, TensorSpec
from catena.core.messages import PredictRequest, Tensor
from catena.core.messages.predict import DTYPES
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.protocols.open_inference import bodies
from catena.reach.gateway.protocols.open_inference.tensors import FORMS, packed, unpacked

pytestmark = pytest.mark.anyio
URL = "/v2/models/net/infer"
X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -2]}
LENGTH = bodies.HEADER


def asking(*inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"inputs": list(inputs or (X,)), **fields}


def binary(value: dict[str, Any], *pieces: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with binary data after its JSON, and the header that says so."""
    text = json.dumps(value).encode()
    return b"".join((text, *pieces)), {LENGTH: str(len(text)), "content-type": "application/octet-stream"}


def split_answer(response: Any) -> tuple[dict[str, Any], bytes]:
    length = int(response.headers[LENGTH])
    return json.loads(response.body[:length]), response.body[length:]


def serving(door: Door, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...] = ()) -> None:
    """Have the scripted router hold a model with this signature."""
    manifest = msgspec.structs.replace(PREDICTOR.manifest, signature=Signature(inputs, outputs or inputs))
    door.script.predictor = StoredModel(manifest, PREDICTOR.digest, {})


async def test_the_name_of_the_model_may_be_repeated_as_kserve_does_but_not_changed(door: Door) -> None:
    assert (await door.post(URL, asking(model_name="net"))).status == 200
    assert (await door.post(URL, asking(model_name="other"))).status == 400


async def test_a_request_in_json_is_answered_in_json_with_units_and_receipt(door: Door) -> None:
    response = await door.post(URL, asking(id="q7"))
    assert response.status == 200
    assert response.json == {
        "model_name": "net",
        "model_version": "1",
        "id": "q7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0], "parameters": {"unit": "W"}}
        ],
    }
    assert response.headers["content-type"] == "application/json"
    assert response.headers["catena-receipt"].startswith("rcpt_")
    assert "decode;dur=" in response.headers["server-timing"]
    asked = door.script.asked[0]
    assert isinstance(asked, PredictRequest)
    assert asked.inputs[0].data == struct.pack("<2f", 1.5, -2)
    assert door.script.callers[0].door == "open_inference.infer"


async def test_binary_data_come_after_the_json_both_ways(door: Door) -> None:
    data = struct.pack("<2f", 1e-30, math.inf)
    body, headers = binary(
        asking(
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8, "unit": "K"}},
            parameters={"binary_data_output": True},
        ),
        data,
    )
    response = await door.post(URL, body, headers=headers)
    head, rest = split_answer(response)
    assert response.headers["content-type"] == "application/octet-stream"
    assert head["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"unit": "W", "binary_data_size": 8}}
    ]
    assert rest == data


@pytest.mark.parametrize(("whole", "own", "is_binary"), [(True, False, False), (False, True, True), (True, None, True)])
async def test_each_output_says_how_it_comes(door: Door, whole: bool, own: bool | None, is_binary: bool) -> None:
    output = {"name": "y"} | ({} if own is None else {"parameters": {"binary_data": own}})
    response = await door.post(URL, asking(parameters={"binary_data_output": whole}, outputs=[output]))
    assert (LENGTH in response.headers) is is_binary


async def test_nested_data_are_the_same_as_flat(door: Door) -> None:
    for data in ([[1, 2], [3, 4]], [1, 2, 3, 4]):
        response = await door.post(URL, asking({**X, "shape": [2, 2], "data": data}))
        assert response.json["outputs"][0]["data"] == [1, 2, 3, 4]


async def test_what_json_cannot_say_is_null_and_named(door: Door) -> None:
    door.script.outputs = (Tensor("y", "FP32", (1, 2), struct.pack("<2f", math.nan, -math.inf)),)
    response = await door.post(URL, asking())
    assert response.json["outputs"][0]["data"] == [None, None]
    assert "NaN or infinity" in response.headers["catena-warning"]


async def test_texts_that_are_none_are_shown_and_named(door: Door) -> None:
    door.script.outputs = (Tensor("y", "BYTES", (2,), b"\1\0\0\0\xff\2\0\0\0\xc3\xa9"),)
    response = await door.post(URL, asking())
    assert response.json["outputs"][0]["data"] == ["\ufffd", "é"]
    assert "no text" in response.headers["catena-warning"]


async def test_classification_gives_the_largest_of_each_row(door: Door) -> None:
    door.script.outputs = (Tensor("y", "FP32", (2, 3), struct.pack("<6f", 0.25, 0.5, 0.25, math.nan, 1, 2)),)
    response = await door.post(URL, asking(outputs=[{"name": "y", "parameters": {"classification": 2}}]))
    (output,) = response.json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["0.500000:1", "0.250000:0", "2.000000:2", "1.000000:1"]


async def test_ignored_parameters_are_named_and_harmless_ones_are_not(door: Door) -> None:
    response = await door.post(URL, asking(parameters={"priority": 3, "timeout": 0, "sequence_id": 0}))
    assert response.headers["catena-warning"] == "priority ignored: callers get fair turns"


BAD: dict[str, Any] = {
    "no body": (b"", {}),
    "no json": (b"{", {}),
    "a list": (b"[]", {}),
    "no inputs": ({}, {}),
    "inputs that are no list": ({"inputs": {}}, {}),
    "an unknown field": (asking(input=[]), {}),
    "an unknown field of an input": (asking({**X, "date": []}), {}),
    "an unknown parameter": (asking(parameters={"binary_output": True}), {}),
    "shared memory": (asking({**X, "parameters": {"shared_memory_region": "r"}}), {}),
    "a sequence": (asking(parameters={"sequence_id": 7}), {}),
    "an unknown datatype": (asking({**X, "datatype": "FP8"}), {}),
    "another datatype": (asking({**X, "datatype": "INT32", "data": [1, 2]}), {}),
    "an unknown input": (asking({**X, "name": "z"}), {}),
    "a missing input": ({"inputs": []}, {}),
    "an input twice": (asking(X, X), {}),
    "another unit": (asking({**X, "parameters": {"unit": "degC"}}), {}),
    "a unit that is no text": (asking({**X, "parameters": {"unit": 1}}), {}),
    "a negative shape": (asking({**X, "shape": [-1, 2]}), {}),
    "a shape of floats": (asking({**X, "shape": [1.5, 2]}), {}),
    "a shape that is too large": (asking({**X, "shape": [1 << 62, 2]}), {}),
    "too few data": (asking({**X, "data": [1]}), {}),
    "too many data": (asking({**X, "data": [1, 2, 3]}), {}),
    "uneven data": (asking({**X, "shape": [2, 2], "data": [[1, 2, 3], [4]]}), {}),
    "data nested too deeply": (asking({**X, "data": [[[1, 2]]]}), {}),
    "data that are no list": (asking({**X, "data": 1}), {}),
    "texts for numbers": (asking({**X, "data": ["1", "2"]}), {}),
    "null for a number": (asking({**X, "data": [1, None]}), {}),
    "a number out of range": (asking({**X, "data": [1e39, 1]}), {}),
    "NaN in JSON": (json.dumps(asking({**X, "data": [math.nan, 1]})).encode(), {}),
    "no data": (asking({"name": "x", "shape": [1, 2], "datatype": "FP32"}), {}),
    "an unknown output": (asking(outputs=[{"name": "Y"}]), {}),
    "an output twice": (asking(outputs=[{"name": "y"}, {"name": "y"}]), {}),
    "a flag that is none": (asking(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), {}),
    "classes that are no number": (asking(outputs=[{"name": "y", "parameters": {"classification": True}}]), {}),
    "a name twice": (b'{"inputs":[],"inputs":[' + json.dumps(X).encode() + b"]}", {}),
    "a name twice in an input": (
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2],"data":[3,4]}]}',
        {},
    ),
    "a length that is none": (asking(), {LENGTH: "-1"}),
    "a length beyond the body": (asking(), {LENGTH: "100000"}),
    "a length within the JSON": (asking(), {LENGTH: "10"}),
    "binary data that nobody asked for": (*binary(asking(), b"1234"),),
    "binary data that did not come": (
        *binary(asking({"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}})),
    ),
    "a negative size of binary data": (
        *binary(
            asking({"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": -8}}), bytes(8)
        ),
    ),
    "both kinds of data": (*binary(asking({**X, "parameters": {"binary_data_size": 8}}), bytes(8)),),
    "nesting without end": (b'{"inputs":' + b"[" * 5000, {}),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_wrong_is_refused_in_the_protocols_own_form(door: Door, name: str) -> None:
    body, headers = BAD[name]
    response = await door.post(URL, body, headers=headers)
    assert response.status in (400, 413)
    assert list(response.json) == ["error"]
    assert isinstance(response.json["error"], str) and response.json["error"]
    assert "1e39" not in response.json["error"]
    assert not door.script.outcomes


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("BOOL", [0, 1]),
        ("INT8", [128, 0]),
        ("UINT8", [-1, 0]),
        ("INT64", [1 << 63, 0]),
        ("UINT64", [1 << 64, 0]),
        ("INT32", [1.5, 0]),
        ("INT64", [10**400, 0]),
        ("FP16", [70000, 0]),
        ("BF16", [1, 0]),
        ("BYTES", [1, 2]),
    ],
)
async def test_values_that_a_type_cannot_hold_are_refused(door: Door, dtype: str, data: list[Any]) -> None:
    serving(door, (TensorSpec("x", DTYPES[dtype].name, (2,)),))
    response = await door.post(URL, asking({"name": "x", "shape": [2], "datatype": dtype, "data": data}))
    assert response.status == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-type": "text/plain"}, 415), ({"content-encoding": "gzip"}, 415), ({"content-type": ""}, 200)],
)
async def test_media_types(door: Door, headers: dict[str, str], status: int) -> None:
    assert (await door.post(URL, asking(), headers=headers)).status == status


@pytest.mark.parametrize(
    ("error", "status"),
    [(BusyError("full", retry_after_s=3), 429), (EngineError("broke"), 500), (HttpError(400, "bad", hint="do"), 400)],
)
async def test_errors_of_the_model_keep_their_status_and_receipt(door: Door, error: Any, status: int) -> None:
    door.script.events = [error]
    response = await door.post(URL, asking())
    assert (response.status, list(response.json)) == (status, ["error"])
    assert response.headers["catena-receipt"].startswith("rcpt_")


async def test_unknown_models_and_versions_are_404(door: Door) -> None:
    for path in ("/v2/models/nosuch/infer", "/v2/models/net/versions/2/infer"):
        response = await door.post(path, asking())
        assert (response.status, list(response.json)) == (404, ["error"])
    assert (await door.post("/v2/models/net/versions/1/infer", asking())).status == 200


async def test_a_client_that_leaves_cancels_the_work(door: Door) -> None:
    door.script.events = [anyio.sleep_forever]
    await door.post(URL, asking(), leave_after=0)
    assert door.script.outcomes == ["cut CancelledError"]


async def test_a_body_above_the_limit_is_refused(make_door: Callable[..., Door]) -> None:
    door = make_door(max_body_bytes=1000)
    body, headers = binary(asking(), bytes(2000))
    response = await door.post(URL, body, headers=headers)
    assert (response.status, list(response.json)) == (413, ["error"])


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of any type that JSON can carry, with finite values."""
    dtype = draw(st.sampled_from(sorted({*FORMS, "BYTES"})))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    count = math.prod(shape)
    if dtype == "BYTES":
        items = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=count, max_size=count))
        data = b"".join(struct.pack("<I", len(item.encode())) + item.encode() for item in items)
    elif dtype == "BOOL":
        data = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    elif dtype.startswith("FP"):
        width = int(dtype[2:])
        one = st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
        data = struct.pack(f"<{count}{FORMS[dtype]}", *draw(st.lists(one, min_size=count, max_size=count)))
    else:
        data = draw(st.binary(min_size=count * DTYPES[dtype].num_bytes, max_size=count * DTYPES[dtype].num_bytes))
    return Tensor("x", dtype, shape, data)


def nest(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) == 1:
        return values
    size = math.prod(shape[1:])
    return [nest(values[index * size : (index + 1) * size], shape[1:]) for index in range(shape[0])]


@given(tensors())
def test_json_and_bytes_carry_the_same_array_flat_or_nested(tensor: Tensor) -> None:
    values = unpacked(tensor, [])
    assert packed("x", tensor.dtype, tensor.shape, msgspec.Raw(msgspec.json.encode(values))) == tensor.data
    nested = nest(values, tensor.shape)
    if math.prod(tensor.shape):
        assert packed("x", tensor.dtype, tensor.shape, msgspec.Raw(msgspec.json.encode(nested))) == tensor.data


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensor=tensors(), cuts=st.lists(st.integers(0, 400), max_size=4), is_json=st.booleans(), out=st.booleans())
async def test_an_array_comes_back_unchanged_however_it_and_its_body_are_cut(
    door: Door, tensor: Tensor, cuts: list[int], is_json: bool, out: bool
) -> None:
    serving(door, (TensorSpec("x", DTYPES[tensor.dtype].name, (-1,) * len(tensor.shape)),))
    one: dict[str, Any] = {"name": "x", "shape": tensor.shape, "datatype": tensor.dtype}
    flags = {"binary_data_output": out}
    if is_json:
        body, headers = json.dumps(asking({**one, "data": unpacked(tensor, [])}, parameters=flags)).encode(), {}
    else:
        size = {"binary_data_size": len(tensor.data)}
        body, headers = binary(asking({**one, "parameters": size}, parameters=flags), bytes(tensor.data))
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    response = await door.ask("POST", URL, None, headers, pieces=pieces)
    assert response.status == 200, response.body
    if out and tensor.data:
        assert split_answer(response)[1] == tensor.data
    elif not out:
        (found,) = response.json["outputs"]
        assert packed("x", tensor.dtype, tensor.shape, msgspec.Raw(msgspec.json.encode(found["data"]))) == tensor.data


def broken(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    """A good request with bytes of it changed, cut, doubled or put elsewhere, and perhaps another length."""
    data = rng.randbytes(8)
    one = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    if rng.random() < 0.5:
        body, headers = binary(asking({**one, "parameters": {"binary_data_size": 8}}), data)
    else:
        body, headers = json.dumps(asking({**one, "data": [[1, 2]]}, id="a", outputs=[{"name": "y"}])).encode(), {}
    damaged = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(damaged) + 1)
        end = min(len(damaged), start + rng.randrange(12))
        match rng.randrange(4):
            case 0:
                damaged[start:end] = rng.randbytes(rng.randrange(6))
            case 1:
                del damaged[start:end]
            case 2:
                damaged[start:start] = damaged[start:end]
            case _:
                damaged[start:end] = rng.choice([b"-1", b"null", b"[", b"{", b'"', b"1e999", b"\xff", b"9" * 30])
    if headers and rng.random() < 0.3:
        headers[LENGTH] = str(rng.randrange(2 * len(body)))
    return bytes(damaged), headers


async def fuzz(door: Door, num_bodies: int, seed: int) -> None:
    """Every broken body is answered, with an answer or an error in the protocol's form."""
    rng = random.Random(seed)
    for _ in range(num_bodies):
        body, headers = broken(rng)
        response = await door.ask("POST", URL, body, headers)
        assert response.status in (200, 400, 413), (body, response.body)
        if response.status != 200:
            assert list(response.json) == ["error"] and isinstance(response.json["error"], str), body
        door.script.asked.clear()
        door.script.callers.clear()


async def test_broken_bodies_are_refused_in_the_protocols_form(door: Door) -> None:
    await fuzz(door, 3000, seed=0)
