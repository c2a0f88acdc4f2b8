"""What left this machine, as the audit log holds it: every departure, those of one request, and short proofs of one."""

from __future__ import annotations

import hashlib
import zlib

import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError, NotFoundError
from catena.core.messages import Closed, Egress, Opened
from catena.watch import pairing, verifier
from catena.watch.pairing import CLOSE_START, LEAVE_START
from catena.watch.reader import Reading
from catena.watch.verifier import EGRESS_HEAD, EGRESS_START, EGRESS_WORDS


class Left(Struct, frozen=True):
    """One departure, where it stands in the log, and the request that it belongs to."""

    egress: Egress
    index: int
    opened: Opened


class Departed(Struct, frozen=True):
    """All departures of one request, in order, with its end if it has one."""

    opened: Opened
    closed: Closed | None
    left: tuple[Left, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the closing record counts as many departures as there are; unknown while it is open or was lost."""
        return self.closed is None or self.closed.outcome == "lost" or self.closed.departures == len(self.left)


def of(reading: Reading, receipt: str) -> Departed:
    """What left under `receipt`. Raises NotFoundError for a receipt that the log does not know."""
    opened, opened_index, closed, closed_index = reading.find(receipt)
    start, left = pairing.leaving(receipt), list[Left]()
    for index in range(opened_index + 1, reading.size if closed_index is None else closed_index):
        entry = reading.entry(index)
        if entry.startswith(start):
            left.append(Left(_egress(entry), index, opened))
    return Departed(opened, closed, tuple(left))


def every(reading: Reading, since_ns: int = 0) -> list[Departed]:
    """What left under each request since `since_ns` (Unix ns), in the order of its first departure.

    A request that began to send earlier is left out whole. Raises IntegrityError for a departure without its request.
    """
    found: dict[str, list[Left]] = {}
    ends: dict[str, Closed] = {}
    for index in range(reading.size):
        entry = reading.entry(index)
        if entry.startswith(LEAVE_START):
            egress = _egress(entry)
            opened = pairing.decode(reading.entry(egress.opened_index))
            if not isinstance(opened, Opened) or opened.receipt != egress.receipt:
                raise IntegrityError(f"entry {index} of the audit log is of a request that is not there")
            found.setdefault(egress.receipt, []).append(Left(egress, index, opened))
        elif found and entry.startswith(CLOSE_START) and (part := pairing.part(entry)).receipt in found:
            closed = pairing.decode(entry)
            assert isinstance(closed, Closed)
            ends[part.receipt] = closed
    return [
        Departed(left[0].opened, ends.get(receipt), tuple(left))
        for receipt, left in found.items()
        if left[0].egress.at_ns >= since_ns
    ]


def one(reading: Reading, receipt: str, serial: int | None = None) -> Left:
    """One departure of `receipt`, the last request where `serial` does not say which. Raises NotFoundError."""
    left = of(reading, receipt).left
    if not left:
        raise NotFoundError(f"nothing left this machine under {receipt}", hint="`catena egress show` lists what did")
    if serial is None:
        return next((each for each in reversed(left) if each.egress.kind == "request"), left[-1])
    for each in left:
        if each.egress.serial == serial:
            return each
    raise NotFoundError(f"{receipt} has {len(left)} departures, so none numbered {serial}")


def prove(reading: Reading, left: Left, salt: bytes | None = None) -> bytes:
    """A proof that `left` is in the log, for `watch.verifier`; with `salt` its holder can compare the bytes.

    The tree head is not written out: its text follows from the key's name, the size and the path, so that a proof fits
    in a kilobyte for logs of up to a million entries.
    """
    note, size, entry, path = reading.included(left.index)
    text, _, lines = note.rpartition("\n\n")
    origin = text.split("\n", 1)[0]
    signatures = [line.split(" ")[2] for line in lines.splitlines() if line.startswith(f"\u2014 {origin} ")]
    if len(text.split("\n")) != 3 or not signatures:
        raise IntegrityError("the newest checkpoint is not one that this machine wrote")
    packing = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, EGRESS_WORDS)
    packed = packing.compress(entry) + packing.flush()
    head = EGRESS_HEAD.pack(EGRESS_START, int(salt is not None), size, left.index, len(path))
    body = b"".join([head, verifier.decode_base64(signatures[0])[4:], salt or b"", *path, packed])
    return body + hashlib.sha256(body).digest()[:8]


def check(proof: bytes, verifier_key: str) -> Egress:
    """The record that `proof` proves. Raises IntegrityError with what does not hold."""
    try:
        record, _ = verifier.check_egress(proof, verifier_key)
    except verifier.Failed as error:
        raise IntegrityError(f"the proof does not hold: {error}") from None
    return msgspec.convert({name: record[name] for name in Egress.__struct_fields__ if name in record}, Egress)


def _egress(entry: bytes) -> Egress:
    record = pairing.decode(entry)
    if not isinstance(record, Egress):
        raise IntegrityError("an entry of the audit log is not what its first bytes say")
    return record
