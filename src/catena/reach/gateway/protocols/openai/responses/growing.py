"""An answer while it grows: its items, and what is told of each step, in the order of the API.

One item is open at a time, so a call that begins before another is complete waits its turn. Source of the order: the
event types of the official client, and https://www.openresponses.org/specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from catena.core.errors import EngineError
from catena.core.messages import Delta, Event, Finished, FinishReason, TokenLogprob, ToolCallDelta, Usage
from catena.reach.gateway.protocols.openai.chat_form import logprobs_form
from catena.reach.gateway.protocols.openai.responses.items import Item, sealed

Kind = Literal["message", "reasoning", "function_call"]
Step = tuple[str, dict[str, Any]]
PREFIXES: dict[Kind, str] = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class _Open:
    """The item that grows now. `call` is the number of a call, -1 for other items."""

    def __init__(self, kind: Kind, id: str, index: int, call: int = -1, call_id: str = "", name: str = "") -> None:
        self.kind: Kind = kind
        self.place: dict[str, Any] = {"item_id": id, "output_index": index}
        self.call = call
        self.called = {"call_id": call_id, "name": name}
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.seals: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Growth:
    """Takes events and gives the steps they make. With `summarises`, reasoning is shown as its own summary.

    `tail` makes the ids of the items; `namespaces` are those of the functions that have one.
    """

    def __init__(self, tail: str, *, summarises: bool, namespaces: Mapping[str, str] | None = None) -> None:
        self.usage: Usage | None = None
        self.reason: FinishReason | None = None
        self._tail = tail
        self._summarises = summarises
        self._namespaces = namespaces or {}
        self._done: list[Item] = []
        self._open: _Open | None = None
        self._waiting: dict[int, list[ToolCallDelta]] = {}

    @property
    def output(self) -> list[Item]:
        """The items so far, the open one as it stands."""
        return [*self._done, *([self._form(self._open, "in_progress")] if self._open else [])]

    def add(self, event: Event) -> list[Step]:
        """The steps of one event. Raises EngineError when a call goes on after the next item has begun."""
        match event:
            case Delta():
                return list(self._delta(event))
            case ToolCallDelta():
                return list(self._call(event))
            case Finished():
                self.reason = event.reason
                return list(self._finish(event.reason))
            case Usage():
                self.usage = event
            case _:
                pass
        return []

    def cut(self) -> None:
        """The answer ends before its end: what was open stays incomplete."""
        if self._open is not None:
            self._done.append(self._form(self._open, "incomplete"))
            self._open = None

    def _delta(self, delta: Delta) -> Iterator[Step]:
        if delta.reasoning or delta.seal:
            yield from self._begin("reasoning")
            yield from self._grow(delta.reasoning)
            assert self._open is not None
            self._open.seals += [delta.seal] if delta.seal else []
        if delta.text or (delta.logprobs and not delta.reasoning):
            yield from self._begin("message")
            yield from self._grow(delta.text, delta.logprobs)

    def _call(self, call: ToolCallDelta) -> Iterator[Step]:
        if self._open is not None and self._open.call == call.index:
            yield from self._grow(call.arguments)
        elif call.index in self._waiting or (call.id is not None and self._is_amid_call()):
            self._waiting.setdefault(call.index, []).append(call)
        elif call.id is None:
            raise EngineError("the model went on with a call that it had ended")
        else:
            yield from self._begin("function_call", call)
            yield from self._grow(call.arguments)
        while self._waiting and not self._is_amid_call():
            yield from self._next()

    def _is_amid_call(self) -> bool:
        """Whether the open item is a call whose arguments are not all there."""
        if self._open is None or self._open.kind != "function_call":
            return False
        try:
            msgspec.json.decode(self._open.text)
        except msgspec.DecodeError:
            return True
        return False

    def _next(self) -> Iterator[Step]:
        """Begin the call that has waited longest, with all that came of it."""
        calls = self._waiting.pop(next(iter(self._waiting)))
        yield from self._begin("function_call", calls[0])
        for call in calls:
            yield from self._grow(call.arguments)

    def _finish(self, reason: FinishReason) -> Iterator[Step]:
        while self._waiting:
            yield from self._next()
        if not self._done and self._open is None:
            yield from self._begin("message")
        yield from self._end("completed" if reason in ("stop", "tool_calls") else "incomplete")

    def _begin(self, kind: Kind, call: ToolCallDelta | None = None) -> Iterator[Step]:
        """Make an item of this kind the open one, unless it is."""
        if self._open is not None:
            if self._open.kind == kind and call is None:
                return
            yield from self._end("completed")
        index = len(self._done)
        id = f"{PREFIXES[kind]}_{self._tail}_{index}"
        if call is None:
            self._open = item = _Open(kind, id, index)
        else:
            self._open = item = _Open(kind, id, index, call.index, call.id or "", call.name or "")
        yield "response.output_item.added", {"output_index": index, "item": self._form(item, "in_progress", bare=True)}
        if kind == "reasoning" and self._summarises:
            yield "response.reasoning_summary_part.added", self._placed(item, part=self._part(item, ""))
        elif kind != "function_call":
            yield "response.content_part.added", self._placed(item, part=self._part(item, ""))

    def _grow(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> Iterator[Step]:
        item = self._open
        assert item is not None
        if not text and not logprobs:
            return
        item.texts.append(text)
        item.logprobs += logprobs
        fields = self._placed(item, delta=text)
        if item.kind == "message":
            fields["logprobs"] = logprobs_form(logprobs)
        yield f"{self._name(item)}.delta", fields

    def _end(self, status: Literal["completed", "incomplete"]) -> Iterator[Step]:
        item = self._open
        if item is None:
            return
        text = item.text
        match item.kind:
            case "message":
                yield f"{self._name(item)}.done", self._placed(item, text=text, logprobs=logprobs_form(item.logprobs))
            case "reasoning":
                yield f"{self._name(item)}.done", self._placed(item, text=text)
            case "function_call":
                yield f"{self._name(item)}.done", self._placed(item, arguments=text)
        if item.kind == "reasoning" and self._summarises:
            yield "response.reasoning_summary_part.done", self._placed(item, part=self._part(item, text))
        elif item.kind != "function_call":
            yield "response.content_part.done", self._placed(item, part=self._part(item, text))
        form = self._form(item, status)
        yield "response.output_item.done", {"output_index": item.place["output_index"], "item": form}
        self._done.append(form)
        self._open = None

    def _name(self, item: _Open) -> str:
        """How the events of a growing item begin."""
        if item.kind == "message":
            return "response.output_text"
        if item.kind == "function_call":
            return "response.function_call_arguments"
        return "response.reasoning_summary_text" if self._summarises else "response.reasoning_text"

    def _placed(self, item: _Open, **fields: Any) -> dict[str, Any]:
        if item.kind == "function_call":
            return {**item.place, **fields}
        index = "summary_index" if item.kind == "reasoning" and self._summarises else "content_index"
        return {**item.place, index: 0, **fields}

    def _part(self, item: _Open, text: str) -> dict[str, Any]:
        if item.kind == "message":
            logprobs = logprobs_form(item.logprobs) if text else []
            return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}
        return {"type": "summary_text" if self._summarises else "reasoning_text", "text": text}

    def _form(self, item: _Open, status: str, *, bare: bool = False) -> Item:
        """The item as it stands; `bare` as it is when it begins."""
        form: Item = {"id": item.place["item_id"], "type": item.kind, "status": status}
        content = [] if bare else [self._part(item, item.text)]
        match item.kind:
            case "message":
                return {**form, "role": "assistant", "content": content}
            case "function_call":
                space = self._namespaces.get(item.called["name"])
                return {**form, **item.called, "arguments": item.text, **({"namespace": space} if space else {})}
            case "reasoning":
                is_told = [] if not item.texts else content
                form |= {"summary": is_told, "content": []} if self._summarises else {"summary": [], "content": is_told}
                return {**form, "encrypted_content": sealed(item.seals)} if item.seals else form
