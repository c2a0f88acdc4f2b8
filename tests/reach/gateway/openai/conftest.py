"""A scripted gateway that keeps responses, and the laws that every stream of events must keep."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script

from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.archive import Archive
from catena.reach.gateway.application import create
from catena.store.database import Database

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "tiny", "input": "hi"}
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "description": "Add two numbers",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = ("response.completed", "response.incomplete")
# What may follow within one item, by the kind of the event before.
LAW = {
    "response.output_item.added": {
        "response.content_part.added", "response.reasoning_summary_part.added",
        "response.function_call_arguments.delta", "response.function_call_arguments.done",
    },
    "response.content_part.added": {
        "response.output_text.delta", "response.output_text.done", "response.reasoning_text.delta",
        "response.reasoning_text.done",
    },
    "response.output_text.delta": {"response.output_text.delta", "response.output_text.done"},
    "response.output_text.done": {"response.content_part.done"},
    "response.reasoning_text.delta": {"response.reasoning_text.delta", "response.reasoning_text.done"},
    "response.reasoning_text.done": {"response.content_part.done"},
    "response.reasoning_summary_part.added": {"response.reasoning_summary_text.delta"},
    "response.reasoning_summary_text.delta": {
        "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done",
    },
    "response.reasoning_summary_text.done": {"response.reasoning_summary_part.done"},
    "response.reasoning_summary_part.done": {"response.output_item.done"},
    "response.content_part.done": {"response.output_item.done"},
    "response.function_call_arguments.delta": {
        "response.function_call_arguments.delta", "response.function_call_arguments.done",
    },
    "response.function_call_arguments.done": {"response.output_item.done"},
}  # fmt: skip


def events(body: bytes) -> list[Any]:
    """The events of a stream, each of its type for the official client, named twice, and numbered one by one."""
    found: list[Any] = []
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name, data = lines
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    numbers = [event["sequence_number"] for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return found


def checked(body: bytes) -> list[Any]:
    """The events of a complete stream, which must keep every law of the protocol."""
    found = events(body)
    kinds = [event["type"] for event in found]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ENDS
    done: list[Any] = []
    said = ""
    before = "response.output_item.done"
    for event in found:
        kind = event["type"]
        if "output_index" not in event:
            continue
        assert event["output_index"] == len(done)
        if before == "response.output_item.done":
            assert kind == "response.output_item.added"
            said = ""
        else:
            assert kind in LAW[before], f"{kind} after {before}"
        if kind.endswith(".delta"):
            said += event["delta"]
        elif kind.endswith(("_text.done", "arguments.done")):
            assert event.get("text", event.get("arguments")) == said
        elif kind == "response.output_item.done":
            done.append(event["item"])
        before = kind
    last = found[-1]["response"]
    assert before == "response.output_item.done"
    assert last["output"] == done
    return found


def response_of(value: Any) -> Any:
    """A response, which must be one for the official client."""
    Response.model_validate(value, strict=False)
    return value


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Maker = Callable[..., Door]


@pytest.fixture
def make_door(tmp_path: Path) -> Maker:
    """A gateway over a script, with an archive in a file; `answers` keeps the same file over several gateways."""

    def make(*, key: bool = False, **settings: Any) -> Door:
        script, access, log = Script(), Access(Memory()), Log()
        if key:
            access.add("first")
        merged = ReachSettings(**settings)
        archive = Archive(
            lambda: Database(tmp_path / "responses.db"),
            keep_s=merged.responses_keep_s,
            max_bytes=merged.max_responses_bytes,
        )
        rows = [Row("tiny", MODEL.digest, ("default",), MODEL.manifest)]
        app = create(script, merged, access, models=lambda: rows, reader=log, archive=archive)
        return Door(app, script, access, log)

    return make


@pytest.fixture
def door(make_door: Maker) -> Door:
    return make_door()


@asynccontextmanager
async def at_work(door: Door) -> AsyncGenerator[Door]:
    """The door with its background, as it is while the gateway listens."""
    async with door.app.services.background.running():
        yield door
