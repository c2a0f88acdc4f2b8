"""What every room's tests may use: a state folder with the embedded models, and the command line as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EMBEDDED = ("smollm2-135m-instruct", "bge-small-en-v1.5")
PULLING_S = 600

Command = Callable[..., subprocess.CompletedProcess[str]]


def catena(home: Path, *words: str, limit_s: float = 120.0, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `catena WORDS` for the state folder `home` in a process of its own, without any of the caller's settings."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CATENA_")}
    variables |= {"CATENA_HOME": str(home), **environ}
    return subprocess.run(
        [sys.executable, "-m", "catena", *words],
        env=variables,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=limit_s,
        check=False,
    )


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with every embedded model, pulled once per run; CATENA_TEST_HOME names one that has them already.

    Tests may add to it and serve from it, but never remove or change a model in it.
    """
    named = os.environ.get("CATENA_TEST_HOME")
    home = Path(named) if named else tmp_path_factory.mktemp("models")
    for name in EMBEDDED:
        done = catena(home, "pull", name, limit_s=PULLING_S)
        assert done.returncode == 0, done.stderr
    return home
