"""The guide's example runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.conftest import Gateway
from tests.rules.test_docs import snippets

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "openai.md"


@pytest.mark.model
def test_the_example_of_the_guide_runs(gateway: Gateway) -> None:
    ((_, code),) = snippets(GUIDE.read_text(), "python")
    assert len(code.splitlines()) <= 10
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": "any"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, receipt = done.stdout.strip().rsplit("\n", 1)
    assert said
    assert gateway.record(receipt)["outcome"] == "complete"
