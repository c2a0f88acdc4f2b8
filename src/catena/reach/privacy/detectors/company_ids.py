"""Numbers of companies and of value added tax."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from catena.reach.privacy.identifiers.table import Numbers
from catena.reach.privacy.spans import Span

numbers = lru_cache(maxsize=1)(lambda: Numbers("company_ids"))


def find(text: str) -> Iterable[Span]:
    """Spans of the forms in `data/company_ids.toml`."""
    return numbers().find(text)
