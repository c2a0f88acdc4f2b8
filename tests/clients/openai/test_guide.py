"""The guide's example runs as it stands."""

from __future__ import annotations

import pytest
from tests.clients.conftest import Gateway
from tests.clients.guides import run_example


@pytest.mark.model
def test_the_example_of_the_guide_runs(gateway: Gateway) -> None:
    printed = run_example("openai.md", OPENAI_BASE_URL=f"{gateway.url}/v1", OPENAI_API_KEY="any")
    said, receipt = printed.strip().rsplit("\n", 1)
    assert said
    assert gateway.record(receipt)["outcome"] == "complete"
