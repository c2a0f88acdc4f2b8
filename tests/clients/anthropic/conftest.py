"""The official Anthropic client for the gateway that the whole suite asks, and for one whose engine plays a script."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import anthropic
import pytest
from tests.clients.conftest import Gateway
from tests.reach.gateway.conftest import MODEL as TINY
from tests.reach.gateway.conftest import Door, Log, Memory, Row, Script, over_loopback

from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create

MODEL = "smollm2-135m-instruct"
EMBEDDER = "bge-small-en-v1.5"
ASK: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Name the colours of a traffic light."}],
    "max_tokens": 8,
    "extra_body": {"temperature": 0},
}
ADD: Any = {
    "name": "add",
    "description": "Add two numbers",
    "input_schema": {
        "type": "object",
        # Few numbers, so that a call is short whatever the small model does.
        "properties": {"a": {"type": "integer", "enum": [1, 2]}, "b": {"type": "integer", "enum": [3, 4]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}
ONE: Any = {"type": "any", "disable_parallel_tool_use": True}
CALL: Any = {**ASK, "max_tokens": 60, "tools": [ADD], "tool_choice": ONE}
WAIT_S = 10


def new_client(url: str, **options: Any) -> anthropic.Anthropic:
    """The official client for a gateway at `url`, which does not repeat by itself."""
    merged: dict[str, Any] = {"api_key": "any", "max_retries": 0, "timeout": 60, **options}
    return anthropic.Anthropic(base_url=url, **merged)


def said(answer: Any) -> str:
    """The text of an answer."""
    return "".join(block.text for block in answer.content if block.type == "text")


def closed(gateway: Gateway, receipt: str) -> Any:
    """The closing record, waiting for it a bounded time."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if record := gateway.record(receipt):
            return record
    raise AssertionError("the record was not closed in time")


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with new_client(gateway.url) as client:
        yield client


class Played(NamedTuple):
    """The same gateway over a router that plays a script."""

    script: Script
    url: str

    def client(self, **options: Any) -> anthropic.Anthropic:
        return new_client(self.url, timeout=10, **options)


@pytest.fixture
def played() -> Iterator[Played]:
    """For what the small model cannot be brought to do: reasoning, breaking, waiting."""
    script = Script()
    rows = [Row("tiny", TINY.digest, (), TINY.manifest)]
    settings = ReachSettings(port=0, drain_s=0.1, ping_s=0.05)
    app = create(script, settings, Access(Memory()), models=lambda: rows)
    with over_loopback(Door(app, script, Access(Memory()), Log()), settings) as (running, _):
        yield Played(script, running.url)
