"""The guide's example runs as it stands."""

from __future__ import annotations

import pytest
from tests.clients.conftest import Gateway
from tests.clients.guides import run_example


@pytest.mark.model
def test_the_example_of_the_guide_runs(gateway: Gateway) -> None:
    printed = run_example("ollama.md", OLLAMA_HOST=gateway.url)
    assert "light" in printed
    assert printed.splitlines()[-1] == "384"
