"""Files of JSON lines for commands: read one at a time within bounds, written whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from catena.core.errors import InputError, ResourceError

MAX_LINE_BYTES = 64 << 20
Row = dict[str, Any]


def read_lines(source: str) -> Iterator[Row]:
    """The objects of a file of JSON lines; `-` is standard input. Raises InputError with the number of a bad line."""
    with ExitStack() as stack:
        if source == "-":
            stream: IO[bytes] = sys.stdin.buffer
        else:
            try:
                stream = stack.enter_context(Path(source).open("rb"))
            except OSError as error:
                raise InputError(f"{source} cannot be read: {error.strerror}") from error
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{source} line {number}: longer than {MAX_LINE_BYTES >> 20} MB")
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise InputError(f"{source} line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{source} line {number}: not an object", hint='a line is {"id": …, "text": …}')
            yield row


def text_of(row: Row, field: str = "text") -> str:
    """The text of a line. Raises InputError if it has none."""
    text = row.get(field)
    if not isinstance(text, str):
        raise InputError(f"the line with id {row.get('id')!r} has no {field!r}", hint='a line is {"id": …, "text": …}')
    return text


@contextmanager
def write_lines(output: str) -> Generator[Callable[[Any], None]]:
    """Gives what writes one object as a line. A file appears whole at the end of the block; `-` is standard output.

    Raises ResourceError if it cannot be written.
    """
    if output == "-":
        yield lambda row: _put(sys.stdout.buffer, row)
        return
    path = Path(output)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as stream:
            yield lambda row: _put(stream, row)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        raise ResourceError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _put(stream: IO[bytes], row: Any) -> None:
    stream.write(msgspec.json.encode(row) + b"\n")
