"""The durable tail of the log: one file of frames, each a batch of entries with the checkpoint signed over it.

A frame is written with one write and one fdatasync, and the next one only after that returned. So a crash can leave
nothing but a cut (or zero-filled) last frame: that is torn and may go. Any other damage is not a crash's doing.

    frame   = magic(4) length(4) note length(4) CRC-32 of payload(4) CRC-32 of the 16 bytes before(4) payload
    head    : payload = signed note: `<origin> journal`, base, seal, and a line per request that is open at `base`
    batch   : payload = entries as in a C2SP bundle, then the signed checkpoint that includes them
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from catena.core.errors import IntegrityError
from catena.watch import notes
from catena.watch.notes import Signs
from catena.watch.verifier import Key

_FRAME = struct.Struct(">4sIIII")
_HEAD, _BATCH = b"CJH1", b"CJB1"
_NAME = re.compile(r"journal-(\d{16})")
_MAX_PAYLOAD_BYTES = 1 << 30


class Batch(NamedTuple):
    """Entries that became durable together, still packed, and the checkpoint signed over the log up to them."""

    bundle: bytes
    note: str


class Parsed(NamedTuple):
    """A journal's content: the signed head, the complete batches, where they end, and how many torn bytes follow."""

    head: str
    batches: list[Batch]
    end: int
    num_torn_bytes: int


class Head(NamedTuple):
    """What a journal starts from: the index of its first entry, the seal over all final files before it (32 bytes),
    and receipt → index of the requests that are open there."""

    base: int
    seal: bytes
    open: dict[str, int]


def name(base: int) -> str:
    """The file name of the journal that starts at entry `base`."""
    return f"journal-{base:016d}"


def find(folder: Path) -> list[tuple[int, Path]]:
    """Base and path of each journal in `folder`, newest first. More than one only after a crash while turning over."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def is_unborn(folder: Path) -> bool:
    """Whether no record was ever written: a log begins with a checkpoint of size 0, then comes its first journal."""
    if find(folder) or (folder / "tile").exists():
        return False
    try:
        return notes.parse_checkpoint((folder / "checkpoint").read_text(encoding="utf-8")).size == 0
    except FileNotFoundError:
        return True
    except (UnicodeDecodeError, IntegrityError):
        return False


def head_note(head: Head, signer: Signs) -> str:
    """The signed head of a journal."""
    lines = [f"open {index} {receipt}\n" for receipt, index in head.open.items()]
    return notes.sign_note(f"{signer.name} journal\n{head.base}\n{head.seal.hex()}\n{''.join(lines)}", signer)


def open_head(note: str, key: Key) -> Head:
    """Read a journal's head. Raises IntegrityError if its signature does not hold or it is another log's."""
    return parse_head(notes.open_note(note, key), key.name)


def parse_head(text: str, origin: str) -> Head:
    """Read the text of a journal's head. Raises IntegrityError."""
    lines = text[:-1].split("\n")
    if len(lines) < 3 or lines[0] != f"{origin} journal" or not lines[1].isdecimal() or len(lines[2]) != 64:
        raise IntegrityError("the journal's head is malformed or another log's")
    requests: dict[str, int] = {}
    for line in lines[3:]:
        word, index, receipt = [*line.split(" "), "", ""][:3]
        if word != "open" or not index.isdecimal() or not receipt:
            raise IntegrityError("the journal's head is malformed")
        requests[receipt] = int(index)
    try:
        return Head(int(lines[1]), bytes.fromhex(lines[2]), requests)
    except ValueError:
        raise IntegrityError("the journal's head is malformed") from None


def head_frame(note: str) -> bytes:
    """The first frame of a journal."""
    return _frame(_HEAD, b"", note)


def batch_frame(bundle: bytes, note: str) -> bytes:
    """The frame of one batch of entries."""
    return _frame(_BATCH, bundle, note)


def parse(data: bytes) -> Parsed:
    """Take a journal apart. A torn last frame is left out; any other damage raises IntegrityError with its place."""
    head: str | None = None
    batches: list[Batch] = []
    position = 0
    while position < len(data):
        frame = _read_frame(data, position, _BATCH if head is not None else _HEAD)
        if frame is None:
            break
        payload, note_bytes, position = frame
        try:
            note = payload[len(payload) - note_bytes :].decode()
        except UnicodeDecodeError:
            raise IntegrityError(f"the journal is damaged before byte {position}: a note is not text") from None
        if head is None:
            head = note
        else:
            batches.append(Batch(payload[: len(payload) - note_bytes], note))
    if head is None or not batches:
        # A journal gets its name only once its head and first batch are durable, so no crash leaves this.
        raise IntegrityError("the journal lacks its head or its first batch")
    return Parsed(head, batches, position, len(data) - position)


def _frame(magic: bytes, bundle: bytes, note: str) -> bytes:
    encoded = note.encode()
    payload = bundle + encoded
    start = struct.pack(">4sIII", magic, len(payload), len(encoded), zlib.crc32(payload))
    return start + zlib.crc32(start).to_bytes(4, "big") + payload


def _read_frame(data: bytes, position: int, magic: bytes) -> tuple[bytes, int, int] | None:
    """Payload, note length and end of the frame at `position`; None if it is torn; IntegrityError if damaged."""
    start = data[position : position + _FRAME.size]
    if len(start) == _FRAME.size:
        found, length, note_bytes, payload_check, start_check = _FRAME.unpack(start)
        if found == magic and start_check == zlib.crc32(start[:16]) and note_bytes <= length <= _MAX_PAYLOAD_BYTES:
            end = position + _FRAME.size + length
            payload = data[end - length : end]
            if len(payload) == length and zlib.crc32(payload) == payload_check:
                return payload, note_bytes, end
            # A note ends in a newline, so a last byte of zero was never written.
            if len(payload) < length or (payload.endswith(b"\0") and not data[end:].strip(b"\0")):
                return None
            raise IntegrityError(f"the journal is damaged between bytes {position} and {end}")
    written = data[position:].rstrip(b"\0")
    if len(written) < _FRAME.size and magic.startswith(written[:4]):
        return None
    raise IntegrityError(f"the journal is damaged at byte {position}")
