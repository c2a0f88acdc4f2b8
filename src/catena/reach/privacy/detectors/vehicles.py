"""Licence plates and vehicle identification numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from catena.reach.privacy.identifiers.table import Numbers
from catena.reach.privacy.spans import Span

numbers = lru_cache(maxsize=1)(lambda: Numbers("vehicles"))


def find(text: str) -> Iterable[Span]:
    """Spans of the forms in `data/vehicles.toml`."""
    return numbers().find(text)
