"""Requests that any model that generates or predicts can take, and how a test reads the events that come back."""

from __future__ import annotations

import random
import struct
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from tests.conformance.conftest import Loaded

from catena.core.errors import CatenaError, UnsupportedError
from catena.core.manifest import TensorSpec
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Message,
    Progress,
    Sampling,
    Tensor,
    Text,
    Timings,
    ToolCallDelta,
    Usage,
)
from catena.core.messages.predict import DTYPE_NAMES, DTYPES

BOUND_S = 120.0
_FORMS = {"float16": "e", "float32": "f", "float64": "d"}
NUMBERS = "one, two, three, four, five, six, seven, eight, nine, ten, one, two, three, four, five, six, seven,"


def ask(prompt: str = NUMBERS, **sampling: Any) -> CompletionRequest:
    """A prompt that any model continues for a while; greedy unless told otherwise."""
    return CompletionRequest("m", prompt, Sampling(**{"max_tokens": 6, "temperature": 0.0, **sampling}))


def chat(text: str, **fields: Any) -> ChatRequest:
    """A conversation of one message; `fields` are of ChatRequest, or of Sampling."""
    own = {name: fields.pop(name) for name in list(fields) if name in Sampling.__struct_fields__}
    sampling = Sampling(**{"max_tokens": 6, "temperature": 0.0, **own})
    return ChatRequest("m", (Message("user", (Text(text),)),), sampling, **fields)


async def events_of(loaded: Loaded, request: GenerateRequest) -> list[Event]:
    """All events of `request`, within BOUND_S."""
    with anyio.fail_after(BOUND_S):
        return [event async for event in loaded.session.generate(request)]


# What a seam leaves open and some of our own engines do not do. Each of the others must, or its tests fail.
MAY_LACK = {"tools": {"torch"}, "counts": {"sglang"}, "tokens": {"sglang", "vllm"}}


def check_may_lack(loaded: Loaded, what: str) -> None:
    """Fail unless the engine is a stranger's, or one of ours that is known to lack this."""
    room, _, rest = type(loaded.engine).__module__.partition("catena.run.engines.")
    assert room or rest.partition(".")[0] in MAY_LACK[what], f"{rest} should have {what}"


async def refuses_tools(loaded: Loaded, request: GenerateRequest) -> bool:
    """Whether the session refuses the tools of `request`, by that name and before any event, as it may."""
    try:
        async with aclosing(loaded.session.generate(request)) as events:
            with anyio.fail_after(BOUND_S):
                await anext(events)
    except UnsupportedError as error:
        assert error.param == "tools"
        check_may_lack(loaded, "tools")
        return True
    return False


async def raised_by(loaded: Loaded, request: GenerateRequest) -> CatenaError:
    """The error of `request`, which must come before any event."""
    seen: list[Event] = []
    with anyio.fail_after(BOUND_S), pytest.raises(CatenaError) as caught:
        async for event in loaded.session.generate(request):
            seen.append(event)
    assert not seen
    return caught.value


def text_of(events: list[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.choice == choice)


def usage_of(events: list[Event]) -> Usage:
    (usage,) = [event for event in events if isinstance(event, Usage)]
    return usage


def reasons_of(events: list[Event]) -> dict[int, str]:
    return {event.choice: event.reason for event in events if isinstance(event, Finished)}


def check_order(events: list[Event], num_choices: int) -> None:
    """The order that core.messages.events promises."""
    assert isinstance(events[-1], Timings) and isinstance(events[-2], Usage)
    ended: set[int] = set()
    has_begun = False
    for event in events[:-2]:
        match event:
            case Progress():
                assert not has_begun, "a sign of life after the first token"
            case Delta(choice=choice) | ToolCallDelta(choice=choice):
                has_begun = True
                assert choice not in ended, "text after the end of its choice"
            case Finished(choice=choice):
                assert choice not in ended, "a choice that ends twice"
                ended.add(choice)
            case _:
                raise AssertionError(f"{type(event).__name__} before the last choice has ended")
    assert ended == set(range(num_choices))


def example(port: TensorSpec, num_rows: int, seed: int = 0) -> Tensor:
    """`num_rows` rows for an input: random numbers, or for whole numbers 0 and 1."""
    rng = random.Random(seed)
    shape = tuple((num_rows if index == 0 else 2) if n < 0 else n for index, n in enumerate(port.shape))
    count = 1
    for length in shape:
        count *= length
    dtype = DTYPE_NAMES[port.dtype]
    if port.dtype in _FORMS:
        data = struct.pack(f"<{count}{_FORMS[port.dtype]}", *[rng.gauss(0, 1) for _ in range(count)])
    elif dtype == "BYTES":
        data = b"".join(struct.pack("<I", 1) + bytes([97 + rng.randrange(26)]) for _ in range(count))
    else:
        size = DTYPES[dtype].num_bytes
        data = b"".join(rng.randrange(2).to_bytes(size, "little") for _ in range(count))
    return Tensor(port.name, dtype, shape, data, port.unit)
