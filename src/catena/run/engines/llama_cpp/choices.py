"""The choices of one request while they stream: the library's pieces in, our events out."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from catena.core.errors import EngineError
from catena.core.ids import new_id
from catena.core.messages import Delta, Event, Finished, FinishReason, TokenLogprob, ToolCallDelta
from catena.run.engines.llama_cpp import wire
from catena.run.engines.llama_cpp.asking import Asking
from catena.run.engines.llama_cpp.tools import CallReader

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class Choices:
    """All choices of one request, by index."""

    def __init__(self, asking: Asking) -> None:
        self.num_reasoning = 0
        self._asking = asking
        self._finished: set[int] = set()
        self._called: set[int] = set()
        self._named: set[tuple[int, int]] = set()
        self._echoed: set[int] = set()
        self._readers: dict[int, CallReader] = {}
        self._waiting: dict[int, tuple[TokenLogprob, ...]] = {}
        if asking.tools:
            self._readers = {index: CallReader(index, asking.tools) for index in range(asking.num_choices)}

    def feed(self, piece: wire.ChoicePiece, stop_sequence: str | None = None) -> Iterable[Event]:
        """The events that one piece brings, in order; `stop_sequence` is the stop text that ended the choice."""
        index = piece.index
        if self._asking.echo and index not in self._echoed:
            self._echoed.add(index)
            yield Delta(index, self._asking.echo)
        text, reasoning = piece.text, ""
        if piece.delta is not None:
            text, reasoning = piece.delta.content or "", piece.delta.reasoning_content or ""
            if piece.delta.tool_calls:
                yield from self._native_calls(index, piece.delta.tool_calls)
        if reasoning:
            self.num_reasoning += 1
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._asking.logprobs is not None:
            logprobs = wire.logprobs_from(piece.logprobs, self._asking.logprobs)
        if text and index in self._readers:
            self._waiting[index] = self._waiting.get(index, ()) + logprobs
            yield from self._read(index, self._readers[index].feed(text))
        elif text or reasoning:
            yield Delta(index, text, reasoning, logprobs)
        if piece.finish_reason is not None:
            yield from self._finish(index, piece.finish_reason, stop_sequence)

    def check_finished(self) -> None:
        """EngineError unless every choice has ended: a stream cut inside the library must not look complete."""
        if len(self._finished) != self._asking.num_choices:
            raise EngineError("llama.cpp ended an answer without finishing it")

    def _finish(self, index: int, reason: str, stop_sequence: str | None) -> Iterable[Event]:
        if index in self._readers:
            yield from self._read(index, self._readers[index].finish())
            if self._readers[index].num_calls:
                self._called.add(index)
        known = _REASONS.get(reason, "stop")
        if index in self._called and known == "stop":
            known = "tool_calls"
        if self._asking.must_call and known == "stop":
            raise EngineError("the model answered without the tool call that was asked for")
        self._finished.add(index)
        yield Finished(index, known, stop_sequence)

    def _read(self, index: int, events: list[Delta | ToolCallDelta]) -> Iterable[Event]:
        """Text that might have begun a call gets the log probabilities that waited with it; a call has none."""
        for event in events:
            waiting = self._waiting.pop(index, ())
            yield msgspec.structs.replace(event, logprobs=waiting) if isinstance(event, Delta) else event

    def _native_calls(self, choice: int, pieces: list[wire.CallPiece]) -> Iterable[Event]:
        self._called.add(choice)
        for piece in pieces:
            arguments = piece.function.arguments or ""
            if (choice, piece.index) in self._named:
                yield ToolCallDelta(choice, piece.index, arguments)
            else:
                self._named.add((choice, piece.index))
                yield ToolCallDelta(choice, piece.index, arguments, new_id("call"), piece.function.name)
