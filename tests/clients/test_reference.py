"""The reference page says what the code and the tests say."""

from __future__ import annotations

from tests.clients.reference import PAGE, SUITE, page, requirements


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.clients.reference"


def test_there_are_at_least_130_requirements_with_ids_of_their_own() -> None:
    ids = [row.id for row, _ in requirements()]
    assert len(ids) >= 130
    assert len(set(ids)) == len(ids)


def test_every_test_of_the_suite_proves_a_requirement() -> None:
    named = {test for _, test in requirements()}
    for module in SUITE:
        assert {name for name in vars(module) if name.startswith("test_")} <= named
