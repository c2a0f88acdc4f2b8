"""The wire form of Protocol Buffers, read and written by hand: no code is generated, and arrays are not copied.

https://protobuf.dev/programming-guides/encoding/. Fields that nobody knows are passed over, as it demands.
"""

from __future__ import annotations

from typing import NoReturn

from catena.core.errors import InputError

VARINT, FIXED64, LENGTH, GROUP, GROUP_END, FIXED32 = range(6)
MAX_GROUPS = 100
_WIDTHS = {FIXED32: 4, FIXED64: 8}
# A key is field number << 3 | wire type. A varint stands in the second place, of all else first and last byte do.
Field = tuple[int, int, int]


def fields(data: bytes, start: int, end: int) -> list[Field]:
    """Every field between `start` and `end`, in order. Raises InputError for what is not well formed."""
    found: list[Field] = []
    open_groups: list[int] = []
    while start < end:
        key = data[start]
        start += 1
        if key >= 0x80:
            key, start = _varint(data, start - 1, end, 5)
        wire = key & 7
        if not 8 <= key < 1 << 32 or wire > FIXED32:
            malformed()
        if wire == VARINT:
            value, start = _varint(data, start, end, 10)
            field = (key, value, 0)
        elif wire in (GROUP, GROUP_END):
            _group(key, open_groups)
            continue
        else:
            length, start = (_WIDTHS[wire], start) if wire != LENGTH else _varint(data, start, end, 5)
            field = (key, start, start + length)
            start += length
        if start > end:
            malformed()
        if not open_groups:
            found.append(field)
    if open_groups:
        malformed()
    return found


def varints(data: bytes, start: int, end: int) -> list[int]:
    """A packed list of numbers, each without a sign."""
    found: list[int] = []
    while start < end:
        value, start = _varint(data, start, end, 10)
        found.append(value)
    return found


def signed(value: int, num_bits: int = 64) -> int:
    """A number as its type has it: the lowest bits, with a sign."""
    value &= (1 << num_bits) - 1
    return value - (1 << num_bits) if value >> (num_bits - 1) else value


def text(data: bytes, start: int, end: int) -> str:
    """A string. Raises InputError if it is no UTF-8."""
    try:
        return str(data[start:end], "utf-8")
    except UnicodeDecodeError:
        raise InputError("a text of the message is not UTF-8") from None


def malformed() -> NoReturn:
    """Raise what is told of bytes that are no message."""
    raise InputError("the message is malformed")


def varint(value: int) -> bytes:
    """`value`, of up to 64 bits, as it is written; below 0 in two's complement."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= (1 << 64) - 1
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def put(number: int, value: str | bytes | memoryview) -> bytes:
    """A field that holds a text, bytes or a message; a text or bytes that are empty are left out by whoever writes."""
    raw = value.encode() if isinstance(value, str) else value
    return b"".join((varint(number << 3 | LENGTH), varint(len(raw)), raw))


def put_number(number: int, value: int) -> bytes:
    """A field that holds a whole number or a truth; 0 is left out, as proto3 does."""
    return varint(number << 3) + varint(value) if value else b""


def put_text(number: int, value: str) -> bytes:
    """A field that holds a text; an empty one is left out, as proto3 does."""
    return put(number, value) if value else b""


def put_numbers(number: int, values: tuple[int, ...]) -> bytes:
    """A packed list of whole numbers."""
    return put(number, b"".join(map(varint, values))) if values else b""


def _group(key: int, open_groups: list[int]) -> None:
    """Groups hold fields of old messages; what is in them is passed over, up to their own end."""
    wire = key & 7
    if wire == GROUP and len(open_groups) < MAX_GROUPS:
        open_groups.append(key >> 3)
    elif wire != GROUP_END or not open_groups or open_groups.pop() != key >> 3:
        malformed()


def _varint(data: bytes, start: int, end: int, max_bytes: int) -> tuple[int, int]:
    """A number of up to `max_bytes` bytes, and where the next thing begins."""
    if start < end and data[start] < 0x80:
        return data[start], start + 1
    value = shift = 0
    for index in range(start, min(end, start + max_bytes)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                malformed()
            return value, index + 1
        shift += 7
    malformed()
