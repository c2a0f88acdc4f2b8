"""Which request an entry opens or closes, read from its first bytes without decoding the rest.

An entry is the JSON of an Opened or a Closed as msgspec writes it: fields in order, so these stand first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from catena.core.errors import InputError, IntegrityError, TooLargeError
from catena.core.messages import Closed, Opened
from catena.watch.tiles import MAX_ENTRY_BYTES

OPEN_START = b'{"type":"open","receipt":"'
CLOSE_START = b'{"type":"close","receipt":"'
_CLOSE = re.compile(rb'\{"type":"close","receipt":"([!#-\[\]-~]{1,128})","at_ns":-?\d{1,20},"opened_index":(\d{1,19}),')
_OPENED = b',"opened_index":'
_OPEN = re.compile(rb'\{"type":"open","receipt":"([!#-\[\]-~]{1,128})","at_ns":')

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Opened | Closed)


class Part(NamedTuple):
    """An entry's part in its request: `opened_index` is None in the entry that opens it."""

    receipt: str
    opened_index: int | None


def encode(record: Opened | Closed) -> bytes:
    """The entry for `record`. Raises InputError for an unfit receipt, TooLargeError above 65,535 bytes."""
    entry = _encoder.encode(record)
    if len(entry) > MAX_ENTRY_BYTES:
        raise TooLargeError(f"a record of {len(entry)} bytes is larger than the log takes ({MAX_ENTRY_BYTES})")
    if not (_OPEN if isinstance(record, Opened) else _CLOSE).match(entry):
        raise InputError("the receipt of a record must be 1 to 128 printable ASCII characters without quotes")
    return entry


def decode(entry: bytes) -> Opened | Closed:
    """The record in `entry`. Raises IntegrityError."""
    try:
        return _decoder.decode(entry)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"an entry is not a record: {error}") from None


def part(entry: bytes) -> Part:
    """What `entry` opens or closes. Raises IntegrityError if it is neither."""
    if match := _OPEN.match(entry):
        return Part(match[1].decode(), None)
    if match := _CLOSE.match(entry):
        return Part(match[1].decode(), int(match[2]))
    raise IntegrityError("an entry neither opens nor closes a request")


def opening(receipt: str) -> bytes:
    """How the entry that opens `receipt` starts."""
    return OPEN_START + receipt.encode() + b'"'


def closing(receipt: str) -> bytes:
    """How the entry that closes `receipt` starts."""
    return CLOSE_START + receipt.encode() + b'"'


class Pairs:
    """Follows which requests are open while entries pass in order; tells `fail` (file, what, index) what is wrong."""

    def __init__(self, fail: Callable[[str, str, int], None]) -> None:
        self._open: dict[bytes, int] = {}
        self._seen: set[bytes] = set()
        self._fail = fail

    @property
    def open(self) -> dict[str, int]:
        """Receipt → index of every request that is open now."""
        return {receipt.decode(errors="replace"): index for receipt, index in self._open.items()}

    def add(self, bundle: bytes, index: int) -> None:
        """Entries as a bundle, the first of them at `index`. Raises IntegrityError if the bundle is damaged."""
        # Plain searches instead of patterns: a log of a million records is read in half a second.
        position, end, seen, requests = 0, len(bundle), self._seen, self._open
        try:
            while position < end:
                start = position + 2
                position = start + (bundle[position] << 8 | bundle[position + 1])
                if bundle.startswith(OPEN_START, start):
                    receipt = bundle[start + 26 : bundle.index(b'"', start + 26)]
                    if receipt in seen:
                        self._fail("entries", "it opens a request a second time", index)
                    seen.add(receipt)
                    requests[receipt] = index
                elif bundle.startswith(CLOSE_START, start):
                    quote = bundle.index(b'"', start + 27)
                    number = bundle.index(_OPENED, quote, position) + 16
                    opened_index = int(bundle[number : bundle.index(b",", number)])
                    if requests.pop(bundle[start + 27 : quote], None) != opened_index:
                        self._fail("entries", "it closes a request that is not open there", index)
                else:
                    self._fail("entries", "it neither opens nor closes a request", index)
                index += 1
        except (IndexError, ValueError):
            raise IntegrityError(f"the bundle is damaged at entry {index}") from None
        if position != end:
            raise IntegrityError(f"the bundle ends within entry {index - 1}")
