"""The page of the dialects says what the dialects do, of every one of them, and nothing is dropped in silence."""

from __future__ import annotations

import pytest
from tests.run.dialects.page import BASES, PAGE, WISHES, chat, mark, page, raw

from catena.core import registry


def test_the_page_is_current_and_knows_every_dialect() -> None:
    assert set(BASES) == set(registry.names("dialects"))
    assert PAGE.read_text() == page(), "run: python -m tests.run.dialects.page"


@pytest.mark.parametrize("name", BASES)
def test_a_wish_that_is_not_named_as_lost_changes_what_goes_out(name: str) -> None:
    dialect = registry.find("dialects", name)
    plain = {asking(dialect).body for asking in (chat(), raw())}
    silent = [
        wish
        for wish, asking in WISHES.items()
        if mark(dialect, asking) == "✓" and asking(dialect).body in plain and wish not in PLAIN
    ]
    assert silent == []


PLAIN = ("one question of a user", "raw text to be continued")
