"""Arrays as infer writes and reads them: in JSON, or as binary data after it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

from msgspec import Struct

from catena.core.messages import Prediction, PredictRequest, Tensor
from catena.core.messages.predict import DTYPES
from catena.run.dialects.dialect import Outgoing, impossible, malformed
from catena.run.dialects.shapes import JSON, decoded, encode

NAME = "open_inference"
HEADER = "inference-header-content-length"
BINARY = "application/octet-stream"
MAX_RANK = 32
# Element types as struct and memoryview call them; the others have no form in JSON.
_FORMS = {
    **{"BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"},
    **{"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"},
}


class OutputWire(Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferWire(Struct, frozen=True):
    outputs: list[OutputWire]


def predict(request: PredictRequest, model: str, *, is_binary: bool) -> Outgoing:
    """POST infer. Raises UnsupportedError for what has no form in JSON where the server reads nothing else."""
    inputs: list[dict[str, Any]] = []
    for tensor in request.inputs:
        form: dict[str, Any] = {"name": tensor.name, "datatype": tensor.dtype, "shape": tensor.shape}
        if is_binary:
            form["parameters"] = {"binary_data_size": len(tensor.data)}
        else:
            form["data"] = _listed(tensor)
        inputs.append(form)
    body: dict[str, Any] = {"inputs": inputs}
    if is_binary:
        body["parameters"] = {"binary_data_output": True}
    if request.outputs:
        body["outputs"] = [{"name": name} for name in request.outputs]
    text, path = encode(body), f"/v2/models/{quote(model, safe='')}/infer"
    if not is_binary:
        return Outgoing(path, text, JSON)
    whole = b"".join([text, *(tensor.data for tensor in request.inputs)])
    return Outgoing(path, whole, {"content-type": BINARY, HEADER: str(len(text))})


def predicted(body: bytes, headers: Mapping[str, str], request: PredictRequest) -> Prediction:
    """The arrays of an answer, in the order in which they were asked for. Raises NetworkError."""
    told = headers.get(HEADER)
    if told is not None and not (told.isascii() and told.isdecimal() and len(told) < 16 and int(told) <= len(body)):
        raise malformed(NAME, "the length of its JSON is not within it")
    num_json = len(body) if told is None else int(told)
    rest = memoryview(body)[num_json:]
    found: dict[str, Tensor] = {}
    for wire in decoded(NAME, body[:num_json], InferWire).outputs:
        size = wire.parameters.get("binary_data_size")
        if size is None:
            found[wire.name] = _checked(wire, _packed(wire))
        elif type(size) is int and 0 <= size <= len(rest):
            found[wire.name] = _checked(wire, rest[:size])
            rest = rest[size:]
        else:
            raise malformed(NAME, "an output has other data than it says")
    names = request.outputs or tuple(found)
    if rest or not all(name in found for name in names):
        raise malformed(NAME, "it has more data, or fewer outputs, than it says")
    return Prediction(tuple(found[name] for name in names))


def _checked(wire: OutputWire, data: bytes | memoryview) -> Tensor:
    """The array, if its data are as many as its shape and type say."""
    if wire.datatype not in DTYPES or len(wire.shape) > MAX_RANK or any(length < 0 for length in wire.shape):
        raise malformed(NAME, "an output has a type or shape that there is not")
    num_elements, width = math.prod(wire.shape), DTYPES[wire.datatype].num_bytes
    fits = len(data) == num_elements * width if width else _num_items(data) == num_elements
    if not fits:
        raise malformed(NAME, "an output has other data than its shape says")
    unit = wire.parameters.get("unit")
    return Tensor(wire.name, wire.datatype, tuple(wire.shape), data, unit if isinstance(unit, str) else "1")


def _num_items(data: bytes | memoryview) -> int:
    """How many elements BYTES hold, each after its length in 4 bytes; -1 if they do not come out even."""
    view, offset, items = memoryview(data), 0, 0
    while offset < len(view):
        offset += 4 + int.from_bytes(view[offset : offset + 4], "little")
        items += 1
    return items if offset == len(view) else -1


def _packed(wire: OutputWire) -> bytes:
    """The elements of a list in JSON, flat or nested, as bytes."""
    if wire.data is None:
        raise malformed(NAME, "an output has no data")
    values = list(_flat(wire.data, 0))
    if wire.datatype == "BYTES":
        if not all(isinstance(value, str) for value in values):
            raise malformed(NAME, "an output of texts holds something else")
        pieces = [value.encode() for value in values]
        return b"".join([part for piece in pieces for part in (len(piece).to_bytes(4, "little"), piece)])
    try:
        return struct.pack(f"<{len(values)}{_FORMS[wire.datatype]}", *values)
    except (KeyError, struct.error, OverflowError, TypeError):
        raise malformed(NAME, "an output has numbers that are not of its type") from None


def _flat(values: list[Any], depth: int) -> Iterator[Any]:
    if depth >= MAX_RANK:
        raise malformed(NAME, "an output is nested too deep")
    for value in values:
        if isinstance(value, list):
            yield from _flat(cast(list[Any], value), depth + 1)
        else:
            yield value


def _listed(tensor: Tensor) -> list[Any]:
    """The elements of `tensor` for JSON, flat. Raises UnsupportedError for what JSON cannot say."""
    if tensor.dtype == "BYTES":
        return _texts(tensor)
    form = _FORMS.get(tensor.dtype)
    if form is None:
        raise impossible(NAME, f"{tensor.dtype} in JSON", tensor.name)
    width = DTYPES[tensor.dtype].num_bytes
    values = list(struct.unpack(f"<{len(tensor.data) // width}{form}", tensor.data))
    if tensor.dtype.startswith("FP") and not all(map(math.isfinite, values)):
        raise impossible(NAME, "NaN or infinity in JSON", tensor.name)
    return values


def _texts(tensor: Tensor) -> list[str]:
    view, offset = memoryview(tensor.data), 0
    found: list[str] = []
    while offset < len(view):
        end = offset + 4 + int.from_bytes(view[offset : offset + 4], "little")
        try:
            found.append(str(view[offset + 4 : end], "utf-8"))
        except UnicodeDecodeError:
            raise impossible(NAME, "bytes that are no text in JSON", tensor.name) from None
        offset = end
    return found
