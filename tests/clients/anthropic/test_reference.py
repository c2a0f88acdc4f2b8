"""The page about the protocol says what the code and the tests say, and the guide's example runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.anthropic.reference import PAGE, SUITE, page, requirements
from tests.clients.conftest import Gateway
from tests.rules.test_docs import snippets

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "anthropic.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: make docs"


def test_there_are_at_least_sixty_requirements_with_ids_of_their_own() -> None:
    ids = [row.id for row, _ in requirements()]
    assert len(ids) >= 60
    assert len(set(ids)) == len(ids)


def test_every_test_of_the_suite_proves_a_requirement() -> None:
    named = {test for _, test in requirements()}
    for module in SUITE:
        assert {name for name in vars(module) if name.startswith("test_")} <= named


@pytest.mark.model
def test_the_example_of_the_guide_runs(gateway: Gateway) -> None:
    ((_, code),) = snippets(GUIDE.read_text(), "python")
    assert len(code.splitlines()) <= 10
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_API_KEY": "any"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, count, receipt = done.stdout.strip().rsplit("\n", 2)
    assert said
    assert int(count) > 10
    assert gateway.record(receipt)["outcome"] == "complete"
