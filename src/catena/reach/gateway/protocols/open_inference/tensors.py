"""Arrays between JSON and bytes: every number exact or refused, and what JSON cannot say named in a warning."""

from __future__ import annotations

import functools
import heapq
import math
import struct
from typing import Any, cast

import msgspec

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Tensor

# Element types as struct and memoryview call them.
FORMS: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
FLOATS = frozenset({"FP16", "FP32", "FP64"})
# JSON lists nested deeper than this are refused; the door's own limit on depth comes first.
MAX_RANK = 32


def packed(name: str, dtype: str, shape: tuple[int, ...], data: msgspec.Raw) -> bytes:
    """The elements of a JSON list, flat or nested like `shape`, as bytes.

    Raises InputError for values of another type or out of the range of `dtype`, and for lists of uneven lengths.
    NaN and infinity cannot be written in JSON, and `null` is no number.
    """
    if dtype not in FORMS and dtype != "BYTES":
        raise UnsupportedError(f"{dtype} has no form in JSON: send {name} as binary data", param=name)
    kind = bool if dtype == "BOOL" else str if dtype == "BYTES" else float if dtype in FLOATS else int
    text = bytes(data)
    is_nested = text[1:64].lstrip()[:1] == b"["
    rank = len(shape) if is_nested else 1
    if not 1 <= rank <= MAX_RANK:
        raise InputError(f"the data of input {name} are nested unlike its shape", param=name)
    try:
        values: Any = _decoder(kind, rank).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        nested = f", flat or nested in {len(shape)} levels" if is_nested else ""
        raise InputError(f"the data of input {name} are not a list of {dtype}{nested}", param=name) from None
    if is_nested:
        values = _flat(name, values, shape)
    if dtype == "BYTES":
        return joined([text.encode() for text in values])
    try:
        return struct.pack(f"<{len(values)}{FORMS[dtype]}", *values)
    except (struct.error, OverflowError):
        raise InputError(f"a number of input {name} is out of the range of {dtype}", param=name) from None


def unpacked(tensor: Tensor, warnings: list[str]) -> list[Any]:
    """The elements of `tensor` for JSON, flat. What JSON cannot say becomes null or `�`, and is named in `warnings`."""
    if tensor.dtype == "BYTES":
        texts = [str(piece, "utf-8", "replace") for piece in split(tensor.data)]
        if any("\ufffd" in text for text in texts):
            warnings.append(f"output {tensor.name} holds bytes that are no text: ask for it as binary data")
        return texts
    if tensor.dtype == "FP16":
        values: list[Any] = list(struct.unpack(f"<{len(tensor.data) // 2}e", tensor.data))
    else:
        values = memoryview(tensor.data).cast("B").cast(cast(Any, FORMS[tensor.dtype])).tolist()
    if tensor.dtype in FLOATS and not all(map(math.isfinite, values)):
        warnings.append(f"output {tensor.name} holds NaN or infinity, shown as null: ask for it as binary data")
    return values


def joined(items: list[bytes]) -> bytes:
    """Elements of BYTES as the protocol joins them."""
    return b"".join([piece for item in items for piece in (len(item).to_bytes(4, "little"), item)])


def split(data: bytes | memoryview) -> list[memoryview]:
    """The elements of BYTES; the data are known to be whole."""
    view, offset = memoryview(data), 0
    found: list[memoryview] = []
    while offset < len(view):
        end = offset + 4 + int.from_bytes(view[offset : offset + 4], "little")
        found.append(view[offset + 4 : end])
        offset = end
    return found


def classified(tensor: Tensor, num_classes: int) -> Tensor:
    """The `num_classes` largest elements of the last dimension, best first, as texts `value:index`.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
    """
    if tensor.dtype not in FORMS or tensor.dtype == "BOOL" or not tensor.shape:
        raise UnsupportedError(f"output {tensor.name} cannot be classified", param="classification")
    values = unpacked(tensor, [])
    width = tensor.shape[-1]
    count = min(num_classes, width)
    texts: list[bytes] = []
    for start in range(0, len(values), max(width, 1)):
        row = values[start : start + width]
        for index in heapq.nsmallest(count, range(width), key=lambda index: (-_order(row[index]), index)):
            texts.append(f"{row[index]:f}:{index}".encode())
    return Tensor(tensor.name, "BYTES", (*tensor.shape[:-1], count), joined(texts), tensor.unit)


def _order(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _flat(name: str, values: Any, shape: tuple[int, ...]) -> list[Any]:
    for length in shape[:-1]:
        if len(values) % max(length, 1) or any(len(one) != len(values[0]) for one in values):
            raise InputError(f"the lists of input {name} are not as long as its shape says", param=name)
        values = [item for one in values for item in one]
    return values


@functools.lru_cache(maxsize=128)
def _decoder(kind: type, rank: int) -> msgspec.json.Decoder[Any]:
    form: Any = kind
    for _ in range(rank):
        form = list[form]
    return msgspec.json.Decoder(form)
