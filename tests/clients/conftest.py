"""A running `catena up` with the embedded models, official clients for it, and requirements that make a table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx2
import openai
import pytest
from tests.conftest import copied

from catena.reach.access import Access
from catena.store.database import Database

START_TIME_S = 120
NPM_TIME_S = 180
NODE_TIME_S = 180
T = TypeVar("T", bound=Callable[..., Any])


class Requirement(NamedTuple):
    """One row of the table: a stable id, the route or topic, and what must hold."""

    id: str
    topic: str
    sentence: str


def requirement(id: str, topic: str, sentence: str) -> Callable[[T], T]:
    """Make a test the proof of a requirement; the table in docs/reference/openai.md is made of these."""

    def mark(test: T) -> T:
        test.requirement = Requirement(id, topic, sentence)  # type: ignore[attr-defined]
        return test

    return mark


class Gateway(NamedTuple):
    """A running `catena up`; `calls` is where it takes gRPC, if it does."""

    url: str
    process: subprocess.Popen[str]
    calls: str = ""

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client for it, which does not repeat by itself."""
        merged: dict[str, Any] = {"api_key": "any", "max_retries": 0, "timeout": 60, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **merged)

    def get(self, path: str) -> Any:
        """GET JSON from Catena's own routes."""
        return httpx2.get(self.url + path, timeout=10).raise_for_status().json()

    def record(self, receipt: str) -> Any:
        """The closing record of a receipt."""
        return self.get(f"/catena/v1/receipts/{receipt}")["closed"]


@contextmanager
def up(home: Path, *flags: str, **settings: str) -> Iterator[Gateway]:
    """`catena up` on a free port with `settings` in its environment, until the block ends.

    It computes on one core: threads that wait for one another by spinning starve whatever runs beside them.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CATENA_")}
    variables |= {"CATENA_HOME": str(home), "CATENA__RUN__THREADS": "1", **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "catena", "up", "--port", "0", *flags], env=variables, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        too_late = threading.Timer(START_TIME_S, process.kill)
        too_late.start()
        line = process.stdout.readline()
        too_late.cancel()
        assert line.startswith("ready "), f"the gateway did not start: {line!r}"
        yield Gateway(line.split()[1], process, line.partition(" grpc ")[2].strip())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def npm_folder(config: pytest.Config, package: str, version: str) -> Path:
    """A folder with an official JavaScript client in it, installed once and kept between runs."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _leave_out("this machine has no node with npm")
    assert npm is not None
    assert config.cache is not None
    home = config.cache.mkdir(package.strip("@").replace("/", "-"))
    installed = home / "node_modules" / package / "package.json"
    if not (installed.exists() and json.loads(installed.read_text())["version"] == version):
        (home / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{package}@{version}"]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=NPM_TIME_S, check=False)
        if done.returncode:
            _leave_out(f"npm on this machine cannot fetch {package}")
    return home


def asked_by_node(questions: Path, *arguments: str) -> Any:
    """What a script of questions printed as JSON, run by node with `arguments`."""
    command = [shutil.which("node") or "node", str(questions), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=NODE_TIME_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _leave_out(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def gateway(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway that the whole suite asks."""
    with up(copied(models_home, tmp_path_factory.mktemp("clients") / "home"), "--echo") as running:
        yield running


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with gateway.client() as client:
        yield client


class Desk(NamedTuple):
    """A gateway without models but echo, for files and batches. Each key may have `limit` files of 2 MB."""

    gateway: Gateway
    home: Path
    limit: int
    keys: list[str]

    def client(self) -> openai.OpenAI:
        """A client with a key of its own, so that it sees nothing of others."""
        return self.gateway.client(api_key=self.keys.pop())


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home, limit = tmp_path_factory.mktemp("desk") / "home", 40
    home.mkdir(mode=0o700)
    database = Database(home / "catena.db")
    # Made beforehand: a gateway learns of a new key within a second.
    keys = [Access(database).add(f"key{number}")[1] for number in range(64)]
    database.close()
    settings = {"CATENA__REACH__MAX_UPLOAD_BYTES": "2000000", "CATENA__REACH__MAX_UPLOADS": str(limit)}
    with up(home, "--echo", **settings) as running:
        yield Desk(running, home, limit, keys)


@pytest.fixture
def small_gateway(models_home: Path, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with one slot per model and room for one question in the queue."""
    settings = {"CATENA__RUN__SLOTS": "1", "CATENA__RUN__QUEUE_LIMIT": "1"}
    with up(copied(models_home, tmp_path / "home"), **settings) as running:
        yield running
