"""The log for others: a folder that any C2SP tlog-tiles client reads, or one line of JSON per entry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from catena.core.errors import ConflictError, ResourceError
from catena.watch import layout, tiles
from catena.watch.reader import Reading
from catena.watch.tiles import WIDTH


def copy(reading: Reading, target: Path, verifier_key: str) -> int:
    """Write checkpoint, tiles, bundles and verifier.vkey of the log as it is now to `target`; returns bytes written.

    Raises ConflictError if `target` holds anything already, ResourceError if it cannot be written.
    """
    num_bytes = 0
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ConflictError(f"the folder {target.name} is not empty", hint="name a folder that does not exist yet")
        for path, data in _files(reading):
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            num_bytes += len(data)
        (target / "verifier.vkey").write_text(verifier_key + "\n", encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"the log cannot be exported to {target.name}: {error.strerror}") from None
    return num_bytes


def lines(reading: Reading) -> Iterator[bytes]:
    """Every entry as a line of JSON: its index, and the record exactly as it was hashed."""
    for index in range(reading.size):
        yield b'{"index":%d,"record":%s}\n' % (index, reading.entry(index))


def _files(reading: Reading) -> Iterator[tuple[str, bytes]]:
    size = reading.size
    for number in range((size + WIDTH - 1) // WIDTH):
        width = min(size - number * WIDTH, WIDTH)
        entries = [reading.entry(index) for index in range(number * WIDTH, number * WIDTH + width)]
        yield layout.entries_path(number, width), tiles.pack(entries)
    row, count = 0, size
    while count:
        for number in range((count + WIDTH - 1) // WIDTH):
            width = min(count - number * WIDTH, WIDTH)
            hashes = [reading.node(8 * row, number * WIDTH + offset) for offset in range(width)]
            yield layout.hash_path(row, number, width), b"".join(hashes)
        row, count = row + 1, count // WIDTH
    yield "checkpoint", reading.checkpoint().encode()
