"""What callers send, read from the wire form; field numbers as the protocol's specification gives them.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md and, for the
repository, https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from catena.core.errors import TooLargeError
from catena.reach.gateway.grpc import protobuf
from catena.reach.gateway.grpc.protobuf import LENGTH, VARINT, fields, signed, text

MAX_TENSORS = 1024
MAX_PARAMETERS = 256
Value = bool | int | float | str | bytes | None
Span = tuple[int, int]


class Named(Struct, frozen=True):
    """A question about a model."""

    name: str = ""
    version: str = ""


class Index(Struct, frozen=True):
    """Which models there are; with `is_ready` only those in memory."""

    is_ready: bool = False


class Load(Struct, frozen=True):
    """Have a model in memory, or out of it."""

    name: str
    parameters: dict[str, Value]


class Input(Struct, frozen=True):
    """One array. `contents` are the parts of the message that hold its elements, where they are typed."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Value]
    contents: tuple[Span, ...]


class Output(Struct, frozen=True):
    name: str
    parameters: dict[str, Value]


class Infer(Struct, frozen=True):
    """Arrays for a model. `raw` are those given as bytes, in the order of the inputs."""

    model: str
    version: str
    id: str
    parameters: dict[str, Value]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    raw: tuple[memoryview, ...]


def named(data: bytes) -> Named:
    """The message of ModelReady, ModelMetadata, ModelConfig and ModelStatistics."""
    found = _texts(data, (1, 2))
    return Named(found[1], found[2])


def nothing(data: bytes) -> None:
    """A message without fields."""
    fields(data, 0, len(data))


def index(data: bytes) -> Index:
    """The message of RepositoryIndex; its repository has one name, which is not looked at."""
    is_ready = False
    for key, value, end in fields(data, 0, len(data)):
        if key == 1 << 3 | LENGTH:
            text(data, value, end)
        elif key == 2 << 3 | VARINT:
            is_ready = value != 0
    return Index(is_ready)


def load(data: bytes) -> Load:
    """The message of RepositoryModelLoad and RepositoryModelUnload."""
    parameters: dict[str, Value] = {}
    for key, start, end in fields(data, 0, len(data)):
        if key == 3 << 3 | LENGTH:
            _put(parameters, data, start, end, has_bytes=True)
    return Load(_texts(data, (1, 2))[2], parameters)


def infer(data: bytes) -> Infer:
    """The message of ModelInfer and of ModelStreamInfer. Raises InputError, and TooLargeError for too many arrays."""
    model = version = id = ""
    parameters: dict[str, Value] = {}
    inputs: list[Input] = []
    outputs: list[Output] = []
    raw: list[memoryview] = []
    view = memoryview(data)
    for key, start, end in fields(data, 0, len(data)):
        match key:
            case 10:
                model = text(data, start, end)
            case 18:
                version = text(data, start, end)
            case 26:
                id = text(data, start, end)
            case 34:
                _put(parameters, data, start, end)
            case 42:
                inputs.append(_input(data, start, end))
            case 50:
                outputs.append(_output(data, start, end))
            case 58:
                raw.append(view[start:end])
            case _:
                pass
    if max(len(inputs), len(outputs), len(raw)) > MAX_TENSORS:
        raise TooLargeError(f"a request has more than {MAX_TENSORS} arrays")
    return Infer(model, version, id, parameters, tuple(inputs), tuple(outputs), tuple(raw))


def _input(data: bytes, start: int, end: int) -> Input:
    name = datatype = ""
    shape: list[int] = []
    parameters: dict[str, Value] = {}
    contents: list[Span] = []
    for key, first, last in fields(data, start, end):
        match key:
            case 10:
                name = text(data, first, last)
            case 18:
                datatype = text(data, first, last)
            case 26:
                shape += [signed(value) for value in protobuf.varints(data, first, last)]
            case 24:
                shape.append(signed(first))
            case 34:
                _put(parameters, data, first, last)
            case 42:
                contents.append((first, last))
            case _:
                pass
    return Input(name, datatype, tuple(shape), parameters, tuple(contents))


def _output(data: bytes, start: int, end: int) -> Output:
    name = ""
    parameters: dict[str, Value] = {}
    for key, first, last in fields(data, start, end):
        if key == 1 << 3 | LENGTH:
            name = text(data, first, last)
        elif key == 2 << 3 | LENGTH:
            _put(parameters, data, first, last)
    return Output(name, parameters)


def _put(parameters: dict[str, Value], data: bytes, start: int, end: int, *, has_bytes: bool = False) -> None:
    """Add one entry of a map of parameters; of a name that comes twice the last counts."""
    name, value = "", None
    for key, first, last in fields(data, start, end):
        if key == 1 << 3 | LENGTH:
            name = text(data, first, last)
        elif key == 2 << 3 | LENGTH:
            value = _value(data, first, last, value, has_bytes=has_bytes)
    parameters[name] = value
    if len(parameters) > MAX_PARAMETERS:
        raise TooLargeError(f"there are more than {MAX_PARAMETERS} parameters")


def _value(data: bytes, start: int, end: int, value: Value, *, has_bytes: bool) -> Value:
    """InferParameter and, with `has_bytes`, ModelRepositoryParameter: of its fields the last that came counts."""
    for key, first, last in fields(data, start, end):
        match key:
            case 8:
                value = first != 0
            case 16:
                value = signed(first)
            case 26:
                value = text(data, first, last)
            case 34 if has_bytes:
                value = data[first:last]
            case 33 if not has_bytes:
                (value,) = struct.unpack_from("<d", data, first)
            case 40 if not has_bytes:
                value = first
            case _:
                pass
    return value


def _texts(data: bytes, numbers: tuple[int, ...]) -> dict[int, str]:
    found = dict.fromkeys(numbers, "")
    for key, start, end in fields(data, 0, len(data)):
        if key & 7 == LENGTH and key >> 3 in found:
            found[key >> 3] = text(data, start, end)
    return found
