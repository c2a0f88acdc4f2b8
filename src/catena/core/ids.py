"""Identifiers: random, sortable by the time they were made, and safe in a URL or a file name."""

from __future__ import annotations

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)
_RANDOM_BYTES = 10
# Random bytes for the next ids: asking the system each time would let other threads in each time.
_pool: list[bytes] = []
os.register_at_fork(after_in_child=_pool.clear)
_SHAPE = re.compile(r"[a-z]{2,8}_[0-9a-hjkmnp-tv-z]{26}")
DIGEST_SHAPE = re.compile(r"sha256:[0-9a-f]{64}")


def new_id(prefix: str) -> str:
    """A new id `prefix_` + 26 characters: 48 bits of Unix milliseconds, then 80 random bits, in Crockford base 32.

    Source of the layout: ULID specification, https://github.com/ulid/spec.
    """
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(_random(), "big")
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"


def _random() -> bytes:
    try:
        return _pool.pop()
    except IndexError:
        data = os.urandom(256 * _RANDOM_BYTES)
        _pool.extend(data[start : start + _RANDOM_BYTES] for start in range(_RANDOM_BYTES, len(data), _RANDOM_BYTES))
        return data[:_RANDOM_BYTES]


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an id with this prefix (says nothing about its existence)."""
    return text.startswith(prefix + "_") and _SHAPE.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits; anything else never becomes a path."""
    return DIGEST_SHAPE.fullmatch(text) is not None
