"""Requests and answers of `infer`: JSON, and after it the arrays that come as binary data.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md, and for binary
data https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import InputError
from catena.core.messages import PredictRequest, Tensor
from catena.core.messages.predict import DTYPES
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.protocols.open_inference import fields
from catena.reach.gateway.protocols.open_inference.tensors import classified, packed, unpacked
from catena.reach.gateway.wire import check_depth, check_fields, check_names, misfit

HEADER = "inference-header-content-length"
MAX_CLASSES = 1024
# Requests of one program differ in their data only: what is left without them is checked for doubled names once.
MAX_CHECKED, MAX_CHECKED_BYTES = 256, 2048
_checked: set[bytes] = set()
_EMPTY = msgspec.Raw(b"")
encode = msgspec.json.Encoder().encode


class InputWire(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = _EMPTY


class OutputWire(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] = {}


class InferWire(Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a request; KServe's client repeats the `model_name` of the address."""

    inputs: list[InputWire]
    model_name: str | None = None
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[OutputWire] | None = None


class Wish(Struct, frozen=True):
    """How one output is to be written."""

    is_binary: bool
    num_classes: int = 0


class Asked(Struct, frozen=True):
    """A request: what is asked of the model, and how the answer is to be written. `default` is for unnamed outputs."""

    id: str
    request: PredictRequest
    wishes: dict[str, Wish]
    default: Wish


_decode = msgspec.json.Decoder(InferWire).decode


def header_length(text: str | None, num_bytes: int) -> int:
    """How long the JSON of a body of `num_bytes` is, by its header. Raises HttpError."""
    if text is None:
        return num_bytes
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= num_bytes):
        raise HttpError(400, "Inference-Header-Content-Length is not a length within the body")
    return int(text)


def read(model: str, body: bytes, num_json: int, max_depth: int, warnings: list[str]) -> Asked:
    """What `body` asks of `model`. Raises HttpError or InputError; quotes nothing of the data."""
    wire = _parsed(body if num_json == len(body) else body[:num_json], max_depth)
    check_fields(wire.parameters, fields.REQUEST_PARAMETERS, warnings)
    if wire.model_name not in (None, model):
        raise InputError("model_name is not the model of the address", param="model_name")
    rest = memoryview(body)[num_json:]
    inputs: list[Tensor] = []
    for one in wire.inputs:
        tensor, num_bytes = _tensor(one, rest, warnings)
        rest = rest[num_bytes:]
        inputs.append(tensor)
    if rest:
        raise InputError("there are more binary data than the inputs account for", param="binary_data_size")
    default = Wish(flag(wire.parameters, "binary_data_output", False))
    wishes = {one.name: _wish(one, default, warnings) for one in wire.outputs or ()}
    names = tuple(one.name for one in wire.outputs or ())
    return Asked(wire.id, PredictRequest(model, tuple(inputs), names), wishes, default)


def write(
    asked: Asked, model: str, version: str, outputs: tuple[Tensor, ...], warnings: list[str]
) -> tuple[bytes, int]:
    """The body of an answer, and how much of it is JSON."""
    heads: list[dict[str, Any]] = []
    pieces: list[bytes | memoryview] = []
    for tensor in outputs:
        wish = asked.wishes.get(tensor.name, asked.default)
        if wish.num_classes:
            tensor = classified(tensor, wish.num_classes)  # noqa: PLW2901
        parameters: dict[str, Any] = {} if tensor.unit in ("1", "") else {"unit": tensor.unit}
        head: dict[str, Any] = {"name": tensor.name, "datatype": tensor.dtype, "shape": tensor.shape}
        if wish.is_binary:
            parameters["binary_data_size"] = len(tensor.data)
            pieces.append(tensor.data)
        else:
            head["data"] = unpacked(tensor, warnings)
        if parameters:
            head["parameters"] = parameters
        heads.append(head)
    value: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": heads}
    if asked.id:
        value["id"] = asked.id
    text = encode(value)
    return (b"".join([text, *pieces]) if pieces else text), len(text)


def _parsed(text: bytes, max_depth: int) -> InferWire:
    check_depth(text, max_depth)
    try:
        wire = _decode(text)
    except msgspec.ValidationError as error:
        raise misfit(error, known=fields.REQUEST) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise HttpError(400, "the request is not valid JSON", code="invalid_json") from None
    names = text
    for one in wire.inputs:
        data = bytes(one.data)
        if data.startswith(b"["):
            names = names.replace(data, b"0", 1)
    if names not in _checked:
        check_names(names)
        if len(names) <= MAX_CHECKED_BYTES:
            if len(_checked) >= MAX_CHECKED:
                _checked.clear()
            _checked.add(names)
    return wire


def _tensor(wire: InputWire, rest: memoryview, warnings: list[str]) -> tuple[Tensor, int]:
    """One input, and how many bytes of `rest` are its data."""
    if wire.datatype not in DTYPES:
        raise InputError("datatype is none of the protocol's", hint=f"known: {', '.join(DTYPES)}", param="datatype")
    shape, parameters = tuple(wire.shape), wire.parameters
    if not parameters:
        unit, size = "", None
    else:
        check_fields(parameters, fields.INPUT_PARAMETERS, warnings)
        unit, size = parameters.get("unit", ""), parameters.get("binary_data_size")
        if not isinstance(unit, str):
            raise InputError("unit must be a text", param="unit")
    if size is None:
        if not wire.data:
            raise InputError("an input has no data", param="data")
        return Tensor(
            wire.name, wire.datatype, shape, packed(shown(wire.name), wire.datatype, shape, wire.data), unit
        ), 0
    if wire.data:
        raise InputError("an input has both data and binary data", param="binary_data_size")
    if type(size) is not int or not 0 <= size <= len(rest):
        raise InputError("binary_data_size is not a number of bytes that came", param="binary_data_size")
    return Tensor(wire.name, wire.datatype, shape, rest[:size], unit), size


def _wish(wire: OutputWire, default: Wish, warnings: list[str]) -> Wish:
    if not wire.parameters:
        return default
    check_fields(wire.parameters, fields.OUTPUT_PARAMETERS, warnings)
    return Wish(flag(wire.parameters, "binary_data", default.is_binary), num_classes(wire.parameters))


def num_classes(parameters: Mapping[str, Any]) -> int:
    """How many classes are wanted of an output, 0 for the array as it is. Raises InputError."""
    classes = parameters.get("classification", 0)
    if type(classes) is not int or not 0 <= classes <= MAX_CLASSES:
        raise InputError(f"classification must be a whole number up to {MAX_CLASSES}", param="classification")
    return classes


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A parameter that is true or false. Raises InputError."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false", param=name)
    return value


def shown(name: str) -> str:
    """A name that a caller sent, as far as it may stand in a message."""
    return name if len(name) <= 64 and name.isprintable() else "(unprintable)"
