"""The official Ollama clients for a gateway whose models may be changed: Python in process, JavaScript under node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from tests.clients.conftest import Gateway, up
from tests.conftest import copied

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
