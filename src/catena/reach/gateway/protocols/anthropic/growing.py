"""Content blocks while they grow: events in, blocks in the order in which the model began them.

What a maker wants back goes with the thinking that it came with, or else into a last block without a text.

A stream shows one block at a time, so a block that begins before a tool call before it is complete waits its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from catena.core.errors import EngineError
from catena.core.messages import Delta, Event, Finished, FinishReason, ToolCallDelta, Usage
from catena.reach.gateway.protocols.anthropic import truncated

Kind = Literal["text", "thinking", "tool_use"]


class Growing(Struct):
    """One block: its pieces so far, for a call its number, id and name, for thinking its seals."""

    kind: Kind
    pieces: list[str]
    call: int = -1
    id: str = ""
    name: str = ""
    num_shown: int = 0
    is_started: bool = False
    is_closed: bool = False
    seals: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Step(Struct, frozen=True):
    """What a stream shows next: block `index` begins, goes on by `text`, or stops."""

    what: Literal["start", "delta", "stop"]
    index: int
    block: Growing
    text: str = ""


class Answer:
    """The one choice of an answer; `blocks` are all that has come."""

    def __init__(self) -> None:
        self.blocks: list[Growing] = []
        self.reason: FinishReason | None = None
        self.stop_sequence: str | None = None
        self.usage: Usage | None = None
        self._live = 0
        self._late: tuple[str, ...] = ()

    def add(self, event: Event) -> list[Step]:
        """Take one event; what a stream shows of it now. Raises EngineError for calls that cannot be shown."""
        match event:
            case Delta():
                if event.reasoning:
                    self._last("thinking").pieces.append(event.reasoning)
                if event.text:
                    self._last("text").pieces.append(event.text)
                if event.seal:
                    self._sealed(event.seal)
            case ToolCallDelta():
                self._call(event)
            case Finished():
                self.reason, self.stop_sequence = event.reason, event.stop_sequence
                # Without calls and thinking, nobody goes on from a thought: then no block is made for the seals alone.
                if self._late and any(block.kind != "text" for block in self.blocks):
                    self.blocks.append(Growing("thinking", [], seals=self._late))
            case Usage():
                self.usage = event
            case _:
                pass
        return list(self._steps())

    def _steps(self) -> Iterator[Step]:
        """What can be shown and was not yet; everything once the answer has finished."""
        while self._live < len(self.blocks):
            block = self.blocks[self._live]
            if not block.is_started:
                block.is_started = True
                yield Step("start", self._live, block)
            if block.num_shown < len(block.pieces):
                text = "".join(block.pieces[block.num_shown :])
                block.num_shown = len(block.pieces)
                if text:
                    yield Step("delta", self._live, block, text)
            if not self._may_stop(block):
                return
            block.is_closed = True
            yield Step("stop", self._live, block)
            self._live += 1

    def input(self, block: Growing) -> dict[str, Any]:
        """The arguments of a call. Raises EngineError if they are no JSON object though the answer was not cut."""
        text = block.text.strip()
        if not text:
            return {}
        found = truncated.whole(text)
        if found is None:
            if self.reason != "length":
                raise EngineError("the model called a tool with arguments that are no JSON object")
            found = truncated.beginning(text)
        return found

    def _sealed(self, seal: str) -> None:
        last = self.blocks[-1] if self.blocks else None
        if last is not None and last.kind == "thinking" and not last.is_closed:
            last.seals = (*last.seals, seal)
        else:
            self._late = (*self._late, seal)

    def _last(self, kind: Kind) -> Growing:
        if not self.blocks or self.blocks[-1].kind != kind or self.blocks[-1].is_closed:
            self.blocks.append(Growing(kind, []))
        return self.blocks[-1]

    def _call(self, event: ToolCallDelta) -> None:
        for block in self.blocks:
            if block.kind == "tool_use" and block.call == event.index:
                break
        else:
            block = Growing("tool_use", [], event.index, event.id or "", event.name or "")
            self.blocks.append(block)
        if not block.is_closed:
            block.pieces.append(event.arguments)
        elif event.arguments.strip():
            raise EngineError("the model went on with a tool call that was complete")

    def _may_stop(self, block: Growing) -> bool:
        if self.reason is not None:
            return True
        if self._live == len(self.blocks) - 1:
            return False
        return block.kind != "tool_use" or truncated.whole(block.text) is not None
