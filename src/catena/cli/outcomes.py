"""Reads outcomes of a weak and a strong model from a file of JSON lines, each checked."""

from __future__ import annotations

import hashlib

from catena.cli.lines import Row, read_lines, text_of
from catena.core.errors import InputError, TooLargeError
from catena.reach.routing.fitting import MAX_ROWS, Outcome

HINT = 'a line is {"prompt": …, "weak": 0..1, "strong": 0..1}; true and false count as 1 and 0'


def read_outcomes(source: str) -> tuple[list[Outcome], str]:
    """The outcomes and a digest of them. Raises InputError with the number of a bad one."""
    found: list[Outcome] = []
    digest = hashlib.sha256()
    for number, row in enumerate(read_lines(source), 1):
        if number > MAX_ROWS:
            raise TooLargeError(f"{source} has more than {MAX_ROWS:,} outcomes")
        if not isinstance(row.get("prompt"), str):
            raise InputError(f"{source}, outcome {number}: no prompt", hint=HINT)
        one = Outcome(text_of(row, "prompt"), _quality(row, "weak", number), _quality(row, "strong", number))
        digest.update(repr(one).encode())
        found.append(one)
    if not found:
        raise InputError(f"{source} holds no outcomes", hint=HINT)
    return found, digest.hexdigest()


def _quality(row: Row, field: str, number: int) -> float:
    value = row.get(field)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"outcome {number}: {field!r} is no number from 0 to 1", hint=HINT)
    return float(value)
