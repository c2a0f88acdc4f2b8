"""Names say what a thing is, and each file opens with one sentence that does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rules.reading import Module, everything

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools_misc", "stuff", "shared", "base"}
MAX_SENTENCE = 120


def empty_names(modules: list[Module]) -> list[str]:
    """Files and folders whose name says nothing about what is in them."""
    found: list[str] = []
    for module in modules:
        words = {word for part in module.name.split(".") for word in (part, *part.split("_"))}
        if words & EMPTY_NAMES:
            found.append(module.shown)
    return found


def poor_openings(modules: list[Module]) -> list[str]:
    """Files that do not open with one sentence of at most 120 characters on one line."""
    found: list[str] = []
    for module in modules:
        sentence = module.first_sentence
        if not sentence.endswith((".", "…")) or "\n" in sentence or len(sentence) > MAX_SENTENCE:
            found.append(f"{module.shown}: {sentence!r}")
    return found


def test_no_name_is_empty_of_meaning() -> None:
    assert empty_names(everything()) == []


def test_each_file_opens_with_one_sentence() -> None:
    assert poor_openings(everything()) == []


@pytest.mark.parametrize("name", ["utils.py", "wire_helpers.py", "common/__init__.py", "misc/thing.py"])
def test_an_empty_name_is_found(tmp_path: Path, name: str) -> None:
    assert empty_names([_planted(tmp_path, name, '"""Good."""')])


@pytest.mark.parametrize(
    "text",
    ["import os", '"""no full stop"""', '"""Two lines\nof a sentence."""', f'"""{"long " * 25}."""', '""""""'],
)
def test_a_poor_opening_is_found(tmp_path: Path, text: str) -> None:
    assert poor_openings([_planted(tmp_path, "plain.py", text)])


def test_a_sentence_may_be_followed_by_more(tmp_path: Path) -> None:
    assert not poor_openings([_planted(tmp_path, "plain.py", '"""One sentence.\n\nMore of it, at length.\n"""\n')])


def _planted(tmp_path: Path, name: str, text: str) -> Module:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return Module(path, tmp_path)
