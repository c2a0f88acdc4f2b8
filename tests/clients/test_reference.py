"""The page of each protocol says what the code and the tests say."""

from __future__ import annotations

from types import ModuleType

import pytest
from tests.clients import reference as openai
from tests.clients.anthropic import reference as anthropic
from tests.clients.ollama import reference as ollama
from tests.clients.triton import reference as triton

LEAST = {openai: 130, anthropic: 60, ollama: 60, triton: 40}
protocols = pytest.mark.parametrize("reference", LEAST, ids=lambda reference: reference.PAGE.stem)


@protocols
def test_the_page_is_current(reference: ModuleType) -> None:
    assert reference.PAGE.read_text() == reference.page(), "run: make docs"


@protocols
def test_there_are_many_requirements_with_ids_of_their_own(reference: ModuleType) -> None:
    ids = [row.id for row, _ in reference.requirements()]
    assert len(ids) >= LEAST[reference]
    assert len(set(ids)) == len(ids)


@protocols
def test_every_test_of_the_suite_proves_a_requirement(reference: ModuleType) -> None:
    named = {test for _, test in reference.requirements()}
    for module in reference.SUITE:
        assert {name for name in vars(module) if name.startswith("test_")} <= named
