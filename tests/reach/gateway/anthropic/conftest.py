"""Reading Anthropic streams: the events by name, and the message that a client puts together from them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic._models import construct_type_unchecked
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent

PATH = "/v1/messages"
ASK: dict[str, Any] = {"model": "tiny", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
ADD: dict[str, Any] = {
    "name": "add",
    "description": "Add two numbers",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def events(body: bytes) -> list[tuple[str, Any]]:
    """Every event of a stream with its name; each must say it twice, in `event:` and in `type`."""
    found: list[tuple[str, Any]] = []
    for block in body.decode().split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if not lines:
            continue
        name, data = lines
        found.append((name.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))))
        assert found[-1][0] == found[-1][1]["type"]
    return found


def accumulated(body: bytes) -> Any:
    """The message that the official client makes of a stream, as JSON."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for name, data in events(body):
        if name == "ping":
            continue
        event: Any = construct_type_unchecked(value=data, type_=RawMessageStreamEvent)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot.to_dict()


def checked(body: bytes) -> list[tuple[str, Any]]:
    """The events of a complete stream, which must keep every law of the protocol."""
    found = [(name, data) for name, data in events(body) if name != "ping"]
    names = [name for name, _ in found]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("message_start") == names.count("message_delta") == names.count("message_stop") == 1
    is_open, num_blocks = False, 0
    kinds: list[str] = []
    for name, data in found[1:-2]:
        if name == "content_block_start":
            assert not is_open
            assert data["index"] == num_blocks
            is_open, kind = True, data["content_block"]["type"]
            kinds.append(kind)
        elif name == "content_block_delta":
            assert is_open
            assert data["index"] == num_blocks
            assert data["delta"]["type"] in DELTAS[kinds[-1]]
            assert kinds[-1] != "signed"
            if data["delta"]["type"] == "signature_delta":
                kinds[-1] = "signed"
        else:
            assert name == "content_block_stop"
            assert is_open
            assert data["index"] == num_blocks
            assert kinds[-1] != "thinking", "a thinking block stopped without its signature"
            is_open, num_blocks = False, num_blocks + 1
    assert not is_open
    return found


DELTAS = {
    "text": ("text_delta",),
    "thinking": ("thinking_delta", "signature_delta"),
    "signed": (),
    "tool_use": ("input_json_delta",),
}


def parsed(body: bytes) -> Message:
    """An answer at once, read strictly by the official client's own model."""
    return Message.model_validate_json(body, strict=True)
