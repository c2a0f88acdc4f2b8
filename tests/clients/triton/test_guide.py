"""The examples of the guide work as they stand, but for the ports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.triton.conftest import Server

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "predict.md"


@pytest.mark.parametrize("name", ["example", "calls"])
def test_an_example_prints_a_class_and_its_probabilities(server: Server, name: str) -> None:
    found = re.search(rf"```python {name}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    code = found[1]
    assert len(code.strip().splitlines()) <= 10
    code = code.replace("127.0.0.1:7411", server.address).replace("127.0.0.1:9001", server.gateway.calls)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[[012]\] \[\[[-.e0-9 ]+\]\]\s*", done.stdout)
