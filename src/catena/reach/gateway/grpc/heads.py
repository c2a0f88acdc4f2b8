"""Heads of calls, in and out: HPACK by the `hpack` library, and the same head read once for many calls.

Nothing that is sent refers to a table, so this side keeps no state for it. https://www.rfc-editor.org/rfc/rfc7541
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hpack import Decoder
from hpack.exceptions import HPACKError
from msgspec import Struct

from catena.reach.gateway.grpc.frames import COMPRESSION_ERROR, Violation

MAX_KNOWN, MAX_KNOWN_BYTES = 32, 1024
TABLE_BYTES = 4096
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_BREAK = re.compile(rb"[\0\r\n]")
# RFC 9113, 8.2.2: fields that are about a connection have no place in a message.
_OF_CONNECTIONS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})


class Head(Struct, frozen=True):
    """What a call begins with. `fields` are headers as ASGI wants them, with `:authority` as `host`."""

    method: bytes
    path: bytes
    fields: list[tuple[bytes, bytes]]


class Reader:
    """Reads the blocks of one connection, in their order: each may change the table that later ones refer to."""

    def __init__(self, max_bytes: int) -> None:
        self._decoder = Decoder(max_bytes)
        self._known: dict[bytes, Head | None] = {}

    def read(self, block: bytes) -> Head | None:
        """The head that `block` says, None if it is no proper head of a request. Raises Violation.

        Clients send the same block for each call of one kind. What a block means stays so until the table changes.
        """
        if block in self._known:
            return self._known[block]
        before = self._table()
        try:
            pairs = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except (HPACKError, IndexError, OverflowError):
            raise Violation(COMPRESSION_ERROR) from None
        head = _head(pairs)
        after = self._table()
        if after[0] is not before[0] or after[1:] != before[1:]:
            self._known.clear()
        elif len(block) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[block] = head
        return head

    def _table(self) -> tuple[object, int, int]:
        """What tells one state of the table from the next: an entry that is added becomes the first."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return entries[0] if entries else None, len(entries), table.maxsize


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`fields` as literals that no table keeps (RFC 7541, 6.2.2)."""
    return b"".join([b"\0" + _text(name) + _text(value) for name, value in fields])


def _text(value: bytes) -> bytes:
    length = len(value)
    if length < 127:
        return bytes((length,)) + value
    digits = bytearray((127,))
    length -= 127
    while length >= 128:
        digits.append(length % 128 + 128)
        length //= 128
    digits.append(length)
    return bytes(digits) + value


def _head(pairs: list[tuple[bytes, bytes]]) -> Head | None:
    """RFC 9113, 8.3: pseudo fields first and once each, names in lower case, nothing about the connection."""
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    for name, value in pairs:
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or fields:
                return None
            pseudo[name] = value
        elif not _NAME.fullmatch(name) or name in _OF_CONNECTIONS or _BREAK.search(value):
            return None
        else:
            fields.append((name, value))
    path = pseudo.get(b":path", b"")
    if b":method" not in pseudo or b":scheme" not in pseudo or not path.startswith(b"/") or not path.isascii():
        return None
    if b":authority" in pseudo and all(name != b"host" for name, _ in fields):
        fields.insert(0, (b"host", pseudo[b":authority"]))
    return Head(pseudo[b":method"], path, fields)
