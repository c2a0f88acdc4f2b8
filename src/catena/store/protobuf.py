"""Protobuf walked within bounds, without a schema: messages are ranges of a file, of which nothing is copied.

Source of the wire form: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from catena.core.errors import FormatError
from catena.store.window import Window

MAX_TEXT_BYTES = 1024


class Field(NamedTuple):
    """One field of a message: its number, its value if it is a number, else where its bytes are."""

    number: int
    value: int
    start: int
    end: int


class Walk:
    """A walk over the messages of one file, through `max_fields` fields and numbers at most."""

    def __init__(self, window: Window, max_fields: int) -> None:
        self.window = window
        self._max_fields = max_fields
        self._num_fields = 0

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in this range. Raises FormatError if they do not fit in it exactly."""
        offset = start
        while offset < end:
            self._count()
            tag, offset = self._varint(offset, end)
            number, form = tag >> 3, tag & 7
            if number < 1 or number > 0x1FFFFFFF:
                raise FormatError("the file is no valid protobuf: field number out of range")
            if form == 0:
                value, offset = self._varint(offset, end)
                yield Field(number, value, 0, 0)
                continue
            if form == 2:
                length, offset = self._varint(offset, end)
            elif form in (1, 5):
                length = 8 if form == 1 else 4
            else:
                raise FormatError("the file is no valid protobuf: unknown wire type")
            if length < 0 or offset + length > end:
                raise FormatError(
                    "the file ends within a field, or a field within another",
                    hint="it may be cut off: fetch it again",
                )
            if form == 2:
                yield Field(number, 0, offset, offset + length)
            offset += length

    def whole(self, field: Field) -> Iterator[int]:
        """A repeated int64, packed or not."""
        if not field.end:
            yield field.value
            return
        offset = field.start
        while offset < field.end:
            value, offset = self._varint(offset, field.end)
            self._count()
            yield value

    def text(self, field: Field) -> str:
        """A name. Raises FormatError for one that is longer than MAX_TEXT_BYTES or cannot be printed."""
        if field.end - field.start > MAX_TEXT_BYTES:
            raise FormatError("a name in the file is too long")
        try:
            text = self.window.read(field.start, field.end - field.start).decode()
        except UnicodeDecodeError:
            raise FormatError("a name in the file is not UTF-8") from None
        if not text.isprintable():
            raise FormatError("a name in the file cannot be printed")
        return text

    def _varint(self, offset: int, end: int) -> tuple[int, int]:
        """The signed 64-bit number at `offset`, and where it ends."""
        piece, position = self.window.piece(offset, min(10, end - offset))
        number = 0
        for count in range(min(10, end - offset)):
            byte = piece[position + count]
            number |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                number &= (1 << 64) - 1
                return number - (1 << 64) if number >> 63 else number, offset + count + 1
        raise FormatError("the file is no valid protobuf: a number does not end")

    def _count(self) -> None:
        self._num_fields += 1
        if self._num_fields > self._max_fields:
            raise FormatError("the file has too many fields")
