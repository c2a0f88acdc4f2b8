"""What every session that counts prompts must do; run over each registered engine that generates."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.conformance.asking import (
    BOUND_S,
    NUMBERS,
    ask,
    chat,
    check_may_lack,
    events_of,
    refuses_tools,
    text_of,
    usage_of,
)
from tests.conformance.conftest import Loaded

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import ChatRequest, GenerateRequest, Image, Message, Text, Tool, ToolChoice
from catena.core.protocols import Counter

pytestmark = pytest.mark.anyio
TOOL = Tool("look", "Look something up", {"type": "object", "properties": {"what": {"type": "string"}}})


async def count(generator: Loaded, request: GenerateRequest) -> int:
    """The count, within BOUND_S."""
    if not isinstance(generator.session, Counter):
        check_may_lack(generator, "counts")
        pytest.skip(f"{generator.session.facts.engine} does not count")
    with anyio.fail_after(BOUND_S):
        return await generator.session.count(request)


@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask("one"),
        chat("Say hello."),
        chat("Say hello.", tools=(TOOL,)),
        chat("x", tool_choice=ToolChoice("none")),
    ],
    ids=["completion", "short", "chat", "tools", "no tools"],
)
async def test_a_count_is_what_the_usage_of_the_answer_says_of_its_prompt(
    generator: Loaded, request_: GenerateRequest
) -> None:
    if isinstance(request_, ChatRequest) and request_.tools and await refuses_tools(generator, request_):
        with pytest.raises(UnsupportedError):
            await count(generator, request_)
        return
    counted = await count(generator, request_)
    assert counted == usage_of(await events_of(generator, request_)).prompt_tokens
    assert await count(generator, request_) == counted, "a prompt that is cached has as many"


async def test_a_prompt_longer_than_the_context_has_a_count(generator: Loaded) -> None:
    context = generator.session.facts.context_tokens
    assert await count(generator, ask("word " * (2 * context))) > context


async def test_what_cannot_be_asked_cannot_be_counted(generator: Loaded) -> None:
    pictures = ChatRequest("m", (Message("user", (Image(b"\x89PNG", "image/png"),)),))
    for request, error in ((pictures, UnsupportedError), (ask(stop=("",)), InputError)):
        with pytest.raises(error):
            await count(generator, request)


async def test_counts_leave_every_slot_free(generator: Loaded) -> None:
    async def one(request: Any) -> None:
        assert await count(generator, request) > 0

    await one(ask())  # one that does not count is skipped here, not inside the group
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as group:
            for number in range(2 * min(generator.session.facts.slots, 4)):
                group.start_soon(one, ask(f"{NUMBERS} {number}"))
    assert text_of(await events_of(generator, ask(max_tokens=2)))


async def test_pictures_in_the_result_of_a_tool_are_refused_too(generator: Loaded) -> None:
    turns = (
        Message("user", (Text("look"),)),
        Message("tool", (Image(b"\x89PNG", "image/png"),), tool_call_id="call_1"),
    )
    with pytest.raises(UnsupportedError):
        await count(generator, ChatRequest("m", turns, tools=(TOOL,)))
