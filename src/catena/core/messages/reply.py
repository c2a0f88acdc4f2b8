"""A whole answer, put together from its events, and the canonical bytes that digests are taken of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.messages.chat import ToolCall
from catena.core.messages.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Progress,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)


class Choice(Struct, frozen=True):
    """One of `num_choices` answers. `reason` is None when the answer was cut before its end."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    seals: tuple[str, ...] = ()


class Reply(Struct, frozen=True):
    """Everything one request brought back."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None
    timings: Timings = Timings()


class _Growing:
    """One choice while its fragments arrive."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, tuple[str, str, list[str]]] = {}
        self.logprobs: list[TokenLogprob] = []
        self.seals: list[str] = []
        self.reason: FinishReason | None = None

    def frozen(self) -> Choice:
        calls = tuple(ToolCall(id, name, "".join(parts)) for _, (id, name, parts) in sorted(self.calls.items()))
        text, reasoning = "".join(self.text), "".join(self.reasoning)
        return Choice(text, reasoning, calls, self.reason, tuple(self.logprobs), tuple(self.seals))


class Collector:
    """Takes events in order and gives the Reply so far; used to answer at once and to digest what was answered."""

    def __init__(self) -> None:
        self._choices: dict[int, _Growing] = {}
        self._usage: Usage | None = None
        self._timings = Timings()

    def add(self, event: Event) -> None:
        match event:
            case Delta():
                choice = self._choice(event.choice)
                if event.text:
                    choice.text.append(event.text)
                if event.reasoning:
                    choice.reasoning.append(event.reasoning)
                if event.logprobs:
                    choice.logprobs.extend(event.logprobs)
                if event.seal:
                    choice.seals.append(event.seal)
            case ToolCallDelta():
                calls = self._choice(event.choice).calls
                if event.index not in calls:
                    calls[event.index] = (event.id or "", event.name or "", [])
                calls[event.index][2].append(event.arguments)
            case Finished():
                self._choice(event.choice).reason = event.reason
            case Usage():
                self._usage = event
            case Timings():
                self._timings = event
            case Progress():
                pass

    def reply(self) -> Reply:
        choices = tuple(self._choices[index].frozen() for index in sorted(self._choices))
        return Reply(choices, self._usage, self._timings)

    def _choice(self, index: int) -> _Growing:
        if index not in self._choices:
            self._choices[index] = _Growing()
        return self._choices[index]


async def collect(events: AsyncIterator[Event]) -> Reply:
    """Drain `events` into one Reply."""
    collector = Collector()
    async for event in events:
        collector.add(event)
    return collector.reply()


_encoder = msgspec.json.Encoder(order="sorted", decimal_format="string")


def canonical_bytes(value: Any) -> bytes:
    """`value` as JSON with sorted keys and no spaces: equal values give equal bytes, so digests can be compared."""
    # The encoder cannot sort whole numbers as keys (logit_bias has them), only texts.
    return _encoder.encode(msgspec.to_builtins(value, str_keys=True))
