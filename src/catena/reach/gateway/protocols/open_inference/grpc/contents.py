"""Typed elements of arrays (`InferTensorContents`) to bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import cast

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Tensor
from catena.reach.gateway.grpc.protobuf import FIXED32, FIXED64, LENGTH, VARINT, fields, put, signed, varint, varints
from catena.reach.gateway.protocols.open_inference.tensors import FORMS, joined, split

# Which field holds the elements of a type; FP16 and BF16 have none.
FIELDS: dict[str, int] = {
    "BOOL": 1,
    **dict.fromkeys(("INT8", "INT16", "INT32"), 2),
    "INT64": 3,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), 4),
    "UINT64": 5,
    "FP32": 6,
    "FP64": 7,
    "BYTES": 8,
}
_FIXED = {6: FIXED32, 7: FIXED64}
_WHOLE = frozenset({6, 7, 8})  # what comes is already as it is wanted
# How a number that came is understood, by field.
_MEANT: dict[int, Callable[[int], int]] = {
    1: bool,
    2: lambda value: signed(value, 32),
    3: signed,
    4: lambda value: value & 0xFFFFFFFF,
    5: int,
}


def packed(name: str, datatype: str, data: bytes, spans: tuple[tuple[int, int], ...]) -> bytes:
    """The elements that `spans` of a message hold, as bytes.

    Raises InputError for elements of another type or out of range, UnsupportedError for types that have none.
    """
    number = FIELDS.get(datatype)
    if number is None:
        raise UnsupportedError(f"{datatype} has no typed form: send {name} as raw_input_contents", param="contents")
    pieces: list[bytes] = []
    values: list[int] = []
    for start, end in spans:
        for key, first, last in fields(data, start, end):
            wire = key & 7
            if key >> 3 != number:
                if 1 <= key >> 3 <= 8 and (last > first or wire == VARINT):
                    raise InputError(f"the contents of input {name} are not those of {datatype}", param="contents")
            elif wire == VARINT:
                values.append(first)
            elif number in _WHOLE and wire == LENGTH:
                pieces.append(data[first:last])
            elif wire == LENGTH:
                values += varints(data, first, last)
            elif wire == _FIXED.get(number):
                pieces.append(data[first:last])
    if number == 8:
        return joined(pieces)
    if number in _FIXED:
        return b"".join(pieces)
    meant = _MEANT[number]
    try:
        return struct.pack(f"<{len(values)}{FORMS[datatype]}", *map(meant, values))
    except struct.error:
        raise InputError(f"a number of input {name} is out of the range of {datatype}", param="contents") from None


def unpacked(tensor: Tensor) -> bytes:
    """The elements of `tensor` as InferTensorContents. Its type is one of FIELDS."""
    number = FIELDS[tensor.dtype]
    if number == 8:
        return b"".join([put(8, piece) for piece in split(tensor.data)])
    if number in _FIXED:
        return put(number, tensor.data) if len(tensor.data) else b""
    values = cast(list[int], memoryview(tensor.data).cast("B").cast(FORMS[tensor.dtype]).tolist())  # type: ignore[call-overload]
    return put(number, b"".join(map(varint, values))) if values else b""
