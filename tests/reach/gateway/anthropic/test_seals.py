"""What the maker of an answer wants back with it travels in the signatures of thinking blocks, and comes back whole."""

from __future__ import annotations

from typing import Any

import pytest
from tests.reach.gateway.anthropic.conftest import ASK, PATH, accumulated, checked
from tests.reach.gateway.conftest import Door

from catena.core.ids import new_id
from catena.core.messages import ChatRequest, Delta, Event, Finished, ToolCallDelta, Usage
from catena.reach.gateway.protocols.anthropic import signing

pytestmark = pytest.mark.anyio
CALL = ToolCallDelta(0, 0, "{}", "c1", "add")
ENDING = (Finished(0, "tool_calls"), Usage(1, 1))


async def round_trip(door: Door, *script: Event, is_stream: bool) -> tuple[list[Any], tuple[str, ...], str]:
    """The blocks of an answer; and the seals and reasoning that the next question brings when they are sent back."""
    door.script.events = script
    answer = await door.post(PATH, {**ASK, "stream": is_stream})
    if is_stream:
        checked(answer.body)
    content = (accumulated(answer.body) if is_stream else answer.json)["content"]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "3"}
        for block in content
        if block["type"] == "tool_use"
    ]
    turns = [*ASK["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": results or "?"}]
    assert (await door.post(PATH, {**ASK, "messages": turns})).status == 200
    asked = door.script.asked[-1]
    assert isinstance(asked, ChatRequest)
    said = next(message for message in asked.messages if message.role == "assistant")
    return content, said.seals, said.reasoning


@pytest.mark.parametrize("is_stream", [False, True])
async def test_seals_come_back_with_the_thinking_that_they_came_with(door: Door, is_stream: bool) -> None:
    script = (Delta(reasoning="hm"), Delta(seal="maker:1"), Delta(seal="maker:2"), Delta(text="Hi"), CALL, *ENDING)
    content, seals, reasoning = await round_trip(door, *script, is_stream=is_stream)
    assert [block["type"] for block in content] == ["thinking", "text", "tool_use"]
    assert (seals, reasoning) == (("maker:1", "maker:2"), "hm")


@pytest.mark.parametrize("is_stream", [False, True])
async def test_seals_of_calls_come_back_in_a_block_without_a_text(door: Door, is_stream: bool) -> None:
    script = (Delta(text="Hi"), CALL, Delta(seal="maker:call:0"), *ENDING)
    content, seals, reasoning = await round_trip(door, *script, is_stream=is_stream)
    assert [block["type"] for block in content] == ["text", "tool_use", "thinking"]
    assert (content[2]["thinking"], seals, reasoning) == ("", ("maker:call:0",), "")


async def test_a_plain_text_gets_no_block_for_its_seal(door: Door) -> None:
    script = (Delta(text="Hi"), Delta(seal="maker:text"), Finished(0, "stop"), Usage(1, 1))
    content, seals, _ = await round_trip(door, *script, is_stream=False)
    assert [block["type"] for block in content] == ["text"] and seals == ()


def test_a_signature_binds_its_seals_and_neither_can_pass_for_the_other() -> None:
    receipt = new_id("rcpt")
    signature = signing.sign(str.encode, receipt, "hm", ("a", "b"))
    assert signing.check(str.encode, signature, "hm") == "ours" and signing.carried(signature) == ("a", "b")
    head, _, carried = signature.rpartition(".")
    other = signing.sign(str.encode, receipt, "hm", ("a", "c")).rpartition(".")[2]
    for changed in (head, f"{head}.{other}", f"{head}.", f"{head}.{carried}.", f"{signing.sign(None, receipt, '')}.x"):
        assert signing.check(str.encode, changed, "hm") == "changed", changed
    assert signing.carried(signing.sign(str.encode, receipt, "hm")) == ()
    assert signing.carried(f"{head}.$$$") == signing.carried(f"{head}.AAAA") == ()
