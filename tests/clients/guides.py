"""Runs the example of a guide as it stands, against a gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.rules.test_docs import snippets

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
LIMIT_S = 120


def run_example(guide: str, **environ: str) -> str:
    """What the one example in Python of `guide` prints, with no other variable of the kind of `environ` set."""
    ((_, code),) = snippets((GUIDES / guide).read_text(), "python")
    assert len(code.splitlines()) <= 10
    kinds = {name.partition("_")[0] + "_" for name in environ}
    others = {name: value for name, value in os.environ.items() if not name.startswith(tuple(kinds))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=others | environ,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
