"""The guide's example runs as it stands."""

from __future__ import annotations

import pytest
from tests.clients.conftest import Gateway
from tests.clients.guides import run_example


@pytest.mark.model
def test_the_example_of_the_guide_runs(gateway: Gateway) -> None:
    printed = run_example("anthropic.md", ANTHROPIC_BASE_URL=gateway.url, ANTHROPIC_API_KEY="any")
    said, count, receipt = printed.strip().rsplit("\n", 2)
    assert said
    assert int(count) > 10
    assert gateway.record(receipt)["outcome"] == "complete"
