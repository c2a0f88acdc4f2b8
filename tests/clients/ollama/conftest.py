"""The official Ollama clients for a gateway whose models may be changed: Python in process, JavaScript under node."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from tests.clients.conftest import Gateway, copied, up

MODEL = "smollm2-135m-instruct"
EMBEDDER = "bge-small-en-v1.5"
ECHO = "echo"
EXACT: Any = {"temperature": 0, "seed": 1, "num_predict": 12}
ASK: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Name the colours of a traffic light."}],
    "options": EXACT,
}
PROMPT: Any = {"model": MODEL, "prompt": "Name the colours of a traffic light.", "options": EXACT}
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
SCHEMA: Any = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
NPM_PACKAGE = "ollama@0.6.4"
NPM_LIMIT_S = 120
WAIT_S = 20
LIMIT_S = 180  # of one request, on a machine that is busy with other things


@pytest.fixture(scope="session")
def home(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder of this suite's own: it adds and removes models."""
    return copied(models_home, tmp_path_factory.mktemp("ollama") / "home")


@pytest.fixture(scope="session")
def gateway(home: Path) -> Iterator[Gateway]:
    """The gateway that the official clients ask."""
    with up(home, "--echo") as running:
        yield running


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    with new_client(gateway) as client:
        yield client


def new_client(gateway: Gateway, **options: Any) -> ollama.Client:
    """The official client."""
    return ollama.Client(host=gateway.url, timeout=LIMIT_S, **options)


def post(gateway: Gateway, path: str, body: Any, **options: Any) -> httpx2.Response:
    """One request whose answer is looked at as it came, for what the official client does not show."""
    return httpx2.post(f"{gateway.url}/api/{path}", json=body, timeout=LIMIT_S, **options)


def until(holds: Callable[[], Any]) -> None:
    """Wait a bounded time until `holds()`."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def javascript() -> Path:
    """A folder with the official JavaScript client, installed once per machine."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("this machine has no node with npm")
    folder = Path(tempfile.gettempdir()) / f"catena-tests-{os.getuid()}-{NPM_PACKAGE}"
    if not (folder / "node_modules" / "ollama" / "package.json").exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), NPM_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=NPM_LIMIT_S, check=False)
        if done.returncode:
            pytest.skip(f"npm on this machine cannot fetch {NPM_PACKAGE}")
    return folder
