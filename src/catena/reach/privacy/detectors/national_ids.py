"""Numbers of persons of some sixty countries: identity, insurance, tax, passports and permits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from catena.reach.privacy.identifiers.table import Numbers
from catena.reach.privacy.spans import Span

numbers = lru_cache(maxsize=1)(lambda: Numbers("national_ids"))


def find(text: str) -> Iterable[Span]:
    """Spans of the forms in `data/national_ids.toml`."""
    return numbers().find(text)
