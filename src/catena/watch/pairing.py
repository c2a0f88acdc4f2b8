"""Which request an entry opens, closes or belongs to, read from its first bytes without decoding the rest.

An entry is the JSON of an Opened, an Egress or a Closed as msgspec writes it: fields in order, so these stand first.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from catena.core.errors import InputError, IntegrityError, TooLargeError
from catena.core.messages import Closed, Egress, Opened
from catena.watch.tiles import MAX_ENTRY_BYTES, unpack

OPEN_START = b'{"type":"open","receipt":"'
CLOSE_START = b'{"type":"close","receipt":"'
LEAVE_START = b'{"type":"egress","receipt":"'
_CLOSE = re.compile(rb'\{"type":"close","receipt":"([!#-\[\]-~]{1,128})","at_ns":-?\d{1,20},"opened_index":(\d{1,19}),')
_LEAVE = re.compile(
    rb'\{"type":"egress","receipt":"([!#-\[\]-~]{1,128})","at_ns":-?\d{1,20},"opened_index":(\d{1,19}),'
)
_OPENED = b',"opened_index":'
_OPEN = re.compile(rb'\{"type":"open","receipt":"([!#-\[\]-~]{1,128})","at_ns":')

# A receipt is 31 characters and a time 19 digits, until the year 2286; other lengths take the slower way.
_USUAL_OPEN = struct.Struct(">H26s31s10s")
_USUAL_CLOSE = struct.Struct(">H27s31s10s19x16s")
_THEN = b'","at_ns":'
_NOT_OPEN = "it closes a request that is not open there"
_NOT_LEAVING = "it says what left for a request that is not open there"
Record = Opened | Egress | Closed
_KIND_AT, _IS_OPEN, _COMMA = 11, ord("o"), ord(",")

_encoder = msgspec.json.Encoder()
_SHAPES: dict[type, re.Pattern[bytes]] = {Opened: _OPEN, Egress: _LEAVE, Closed: _CLOSE}

_decoder = msgspec.json.Decoder(Record)


class Part(NamedTuple):
    """An entry's part in its request: `opened_index` is None where it opens it, `is_end` where it closes it."""

    receipt: str
    opened_index: int | None
    is_end: bool = False


def encode(record: Record) -> bytes:
    """The entry for `record`. Raises InputError for an unfit receipt, TooLargeError above 65,535 bytes."""
    entry = _encoder.encode(record)
    if len(entry) > MAX_ENTRY_BYTES:
        raise TooLargeError(f"a record of {len(entry)} bytes is larger than the log takes ({MAX_ENTRY_BYTES})")
    if not _SHAPES[type(record)].match(entry):
        raise InputError("the receipt of a record must be 1 to 128 printable ASCII characters without quotes")
    return entry


def decode(entry: bytes) -> Record:
    """The record in `entry`. Raises IntegrityError."""
    try:
        return _decoder.decode(entry)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"an entry is not a record: {error}") from None


def part(entry: bytes) -> Part:
    """What `entry` opens, closes or belongs to. Raises IntegrityError if it is none of these."""
    if match := _OPEN.match(entry):
        return Part(match[1].decode(), None)
    if match := _CLOSE.match(entry):
        return Part(match[1].decode(), int(match[2]), is_end=True)
    if match := _LEAVE.match(entry):
        return Part(match[1].decode(), int(match[2]))
    raise IntegrityError("an entry neither opens nor closes a request")


def opening(receipt: str) -> bytes:
    """How the entry that opens `receipt` starts."""
    return OPEN_START + receipt.encode() + b'"'


def closing(receipt: str) -> bytes:
    """How the entry that closes `receipt` starts."""
    return CLOSE_START + receipt.encode() + b'"'


def leaving(receipt: str) -> bytes:
    """How an entry starts that says what left for `receipt`."""
    return LEAVE_START + receipt.encode() + b'"'


class Pairs:
    """Follows which requests are open while entries pass in order; tells `fail` (what, index) what is wrong."""

    def __init__(self, fail: Callable[[str, int | None], None]) -> None:
        self._open: dict[bytes, int] = {}
        self._receipts: list[bytes] = []
        self._fail = fail

    @property
    def open(self) -> dict[str, int]:
        """Receipt → index of every request that is open now."""
        return {receipt.decode(errors="replace"): index for receipt, index in self._open.items()}

    def add(self, bundle: bytes, index: int) -> None:
        """Entries as a bundle, the first of them at `index`. Raises IntegrityError if the bundle is damaged."""
        # The usual layout is unpacked at fixed offsets: a million records are followed in half a second.
        position, end, requests, close = 0, len(bundle), self._open, self._open.pop
        unpack_open, unpack_close = _USUAL_OPEN.unpack_from, _USUAL_CLOSE.unpack_from
        add_receipt = self._receipts.append
        try:
            while position < end:
                if bundle[position + _KIND_AT] == _IS_OPEN:
                    length, start, receipt, then = unpack_open(bundle, position)
                    if start == OPEN_START and then == _THEN:
                        add_receipt(receipt)
                        requests[receipt] = index
                    else:
                        self._other(bundle[position + 2 : position + 2 + length], index)
                else:
                    length, start, receipt, then, opened = unpack_close(bundle, position)
                    if start == CLOSE_START and then == _THEN and opened == _OPENED:
                        at = position + _USUAL_CLOSE.size
                        # `-1` is no index, so a request that is not open never matches.
                        if close(receipt, -1) != int(bundle[at : bundle.index(_COMMA, at)]):
                            self._fail(_NOT_OPEN, index)
                    else:
                        self._other(bundle[position + 2 : position + 2 + length], index)
                position += 2 + length
                index += 1
        except (IndexError, ValueError, struct.error):
            # Too short for the usual layout, or damaged: the rest goes the slower way.
            for entry in unpack(bundle[position:]):
                self._other(entry, index)
                index += 1
            return
        if position != end:
            raise IntegrityError(f"the bundle ends within entry {index - 1}")

    def finish(self) -> None:
        """Call once all entries have passed: a receipt may be opened only once, ever."""
        if len(set(self._receipts)) != len(self._receipts):
            twice = [receipt.decode(errors="replace") for receipt, num in Counter(self._receipts).items() if num > 1]
            self._fail(f"the log opens a request more than once: {', '.join(sorted(twice)[:3])}", None)

    def _close(self, receipt: bytes, opened_index: bytes, index: int) -> None:
        if self._open.pop(receipt, None) != int(opened_index):
            self._fail(_NOT_OPEN, index)

    def _other(self, entry: bytes, index: int) -> None:
        """An entry with a receipt of another length, or none at all."""
        if match := _OPEN.match(entry):
            self._receipts.append(match[1])
            self._open[match[1]] = index
        elif match := _CLOSE.match(entry):
            self._close(match[1], match[2], index)
        elif match := _LEAVE.match(entry):
            if self._open.get(match[1]) != int(match[2]):
                self._fail(_NOT_LEAVING, index)
        else:
            self._fail("it neither opens nor closes a request", index)
