"""Splits the body of a streamed answer into server-sent events or lines of NDJSON as it arrives, within bounds.

Source of the event stream format: WHATWG HTML, section 9.2, https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from catena.core.errors import NetworkError

MAX_LINE_BYTES = 8 << 20
MAX_EVENT_BYTES = 16 << 20
_ANY_END = re.compile(rb"\r\n|\n|\r")
_NEWLINE = re.compile(rb"\n")
_BOM = b"\xef\xbb\xbf"


class Frame(NamedTuple):
    """One event: its name (empty for a line of NDJSON and for an event without one) and its data."""

    event: str
    data: bytes


class Framer(Protocol):
    """A body while it is split."""

    def feed(self, piece: bytes, /) -> Iterator[Frame]:
        """The frames that `piece` completes. Raises NetworkError beyond the bounds. To be drained before the next."""
        ...

    def end(self) -> Iterator[Frame]:
        """What stood complete but unterminated when the body ended."""
        ...


def framer(
    framing: Literal["sse", "ndjson"], *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
) -> Framer:
    """A new splitter for one body."""
    return Sse(max_line_bytes, max_event_bytes) if framing == "sse" else Ndjson(max_line_bytes)


class Sse:
    """Splits an event stream. Comments, `id` and `retry` are skipped; an event without data is none."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._lines = _Lines(_ANY_END, max_line_bytes)
        self._max_event_bytes = max_event_bytes
        self._name = ""
        self._data: list[bytes] = []
        self._num_bytes = 0
        self._is_first = True

    def feed(self, piece: bytes, /) -> Iterator[Frame]:
        for line in self._lines.feed(piece):
            if self._is_first:
                line, self._is_first = line.removeprefix(_BOM), False  # noqa: PLW2901 - only the stream's first line
            if line:
                self._take(line)
            else:
                yield from self._dispatch()

    def end(self) -> Iterator[Frame]:
        # A last line without its end was cut; a last event without its empty line is what some servers send.
        yield from self._dispatch()

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._num_bytes += len(value) + 1
            if self._num_bytes > self._max_event_bytes:
                raise _beyond("an event", self._max_event_bytes)
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode(errors="replace")

    def _dispatch(self) -> Iterator[Frame]:
        name, data = self._name, self._data
        self._name, self._data, self._num_bytes = "", [], 0
        if data:
            yield Frame(name, b"\n".join(data))


class Ndjson:
    """Splits a body of one JSON value a line; empty lines are skipped."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._lines = _Lines(_NEWLINE, max_line_bytes)

    def feed(self, piece: bytes, /) -> Iterator[Frame]:
        for line in self._lines.feed(piece):
            if data := line.strip():
                yield Frame("", data)

    def end(self) -> Iterator[Frame]:
        # The last line may lack its end; if it was cut, it is no JSON, and the dialect says so.
        if data := self._lines.rest().strip():
            yield Frame("", data)


class _Lines:
    """Splits bytes at line ends; each byte is looked at once, however small the pieces are."""

    def __init__(self, ends: re.Pattern[bytes], max_bytes: int) -> None:
        self._ends = ends
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        self._num_held = 0
        self._is_after_cr = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if self._is_after_cr and piece:
            piece = piece.removeprefix(b"\n")  # the second half of a line end that was split between two pieces
            self._is_after_cr = False
        start = 0
        for end in self._ends.finditer(piece):
            self._hold(piece[start : end.start()])
            start = end.end()
            self._is_after_cr = end[0] == b"\r" and start == len(piece)
            yield self.rest()
        if start < len(piece):
            self._hold(piece[start:])

    def rest(self) -> bytes:
        """What is held of the line that has not ended, which is forgotten."""
        line = b"".join(self._held)
        self._held, self._num_held = [], 0
        return line

    def _hold(self, part: bytes) -> None:
        self._num_held += len(part)
        if self._num_held > self._max_bytes:
            raise _beyond("a line", self._max_bytes)
        self._held.append(part)


def _beyond(what: str, max_bytes: int) -> NetworkError:
    return NetworkError(f"{what} of the provider's answer is longer than {max_bytes} bytes", hint="ask for less")
