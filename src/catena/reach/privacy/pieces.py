"""Walks every piece of a request that could leave: its texts, where each came from, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct

from catena.core.errors import TooLargeError
from catena.core.messages import (
    PUBLIC,
    Audio,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Image,
    Mark,
    Message,
    OutputFormat,
    PredictRequest,
    Tensor,
    Text,
    Tool,
    ToolCall,
)

# `prose` may be replaced by other words; `json` is text that must stay JSON; `name` must stay as it is.
Manner = Literal["prose", "json", "name"]
Leaving = ChatRequest | CompletionRequest | EmbedRequest | PredictRequest
MAX_DEPTH = 64
# The source of names that programs give: only what was labelled before is looked for in them.
ID = "id"


class Piece(Struct, frozen=True):
    """One text of a request, or something in it that no detector reads (`text` None)."""

    text: str | None
    manner: Manner = "prose"
    mark: Mark = Mark()


Change = Callable[[Piece], str]


def pieces(request: Leaving) -> list[Piece]:
    """Every piece of `request` in order. Raises TooLargeError for schemas nested deeper than MAX_DEPTH."""
    found: list[Piece] = []

    def note(piece: Piece) -> str:
        found.append(piece)
        return piece.text or ""

    changed(request, note)
    return found


def changed(request: Leaving, change: Change) -> Any:
    """`request` with every text as `change` gives it; what cannot be read is shown to `change` too, and stays."""
    match request:
        case ChatRequest():
            sources = {call.id: call.name for message in request.messages for call in message.tool_calls}
            return msgspec.structs.replace(
                request,
                messages=tuple(_message(message, sources, change) for message in request.messages),
                tools=tuple(_tool(tool, change) for tool in request.tools),
                output=_output(request.output, change),
                sampling=_stops(request.sampling, change),
            )
        case CompletionRequest():
            prompt = request.prompt
            if isinstance(prompt, str):
                prompt = change(Piece(prompt))
            else:
                change(Piece(None))
            return msgspec.structs.replace(
                request,
                prompt=prompt,
                suffix=change(Piece(request.suffix)) if request.suffix else "",
                output=_output(request.output, change),
                sampling=_stops(request.sampling, change),
            )
        case EmbedRequest():
            inputs = tuple(
                change(Piece(one)) if isinstance(one, str) else _unread(one, change) for one in request.inputs
            )
            return msgspec.structs.replace(request, inputs=inputs)
        case PredictRequest():
            return msgspec.structs.replace(request, inputs=tuple(_tensor(tensor, change) for tensor in request.inputs))


def _message(message: Message, sources: dict[str, str], change: Change) -> Message:
    mark = Mark(source=_source(message, sources))
    parts: list[Text | Image | Audio] = []
    for part in message.parts:
        own = mark if part.mark is UNSET else part.mark
        if isinstance(part, Text):
            parts.append(Text(change(Piece(part.text, "prose", own)), part.mark))
        else:
            change(Piece(None, "prose", own))
            parts.append(part)
    calls = tuple(
        ToolCall(call.id, _named(call.name, mark, change), change(Piece(call.arguments, "json", mark)))
        for call in message.tool_calls
    )
    reasoning = change(Piece(message.reasoning, "prose", mark)) if message.reasoning else ""
    if message.name:
        _named(message.name, mark, change)
    for id in (message.tool_call_id, *(call.id for call in message.tool_calls)):
        if id:
            _named(id, Mark(source=ID), change)
    return msgspec.structs.replace(message, parts=tuple(parts), tool_calls=calls, reasoning=reasoning)


def _source(message: Message, sources: dict[str, str]) -> str:
    match message.role:
        case "tool":
            return f"tool:{sources.get(message.tool_call_id or '', message.name or '')}"
        case "assistant":
            return "model"
        case "system":
            return "system"
        case _:
            return ""


def _tool(tool: Tool, change: Change) -> Tool:
    mark = Mark(source="tools")
    _named(tool.name, mark, change)
    description = change(Piece(tool.description, "name", mark)) if tool.description else ""
    for text in _texts(tool.parameters):
        _named(text, mark, change)
    return msgspec.structs.replace(tool, description=description)


def _output(output: OutputFormat, change: Change) -> OutputFormat:
    for text in _texts(output.schema):
        _named(text, Mark(source="schema"), change)
    if output.grammar:
        _named(output.grammar, Mark(source="schema"), change)
    return output


def _stops(sampling: Any, change: Change) -> Any:
    if not sampling.stop:
        return sampling
    return msgspec.structs.replace(sampling, stop=tuple(change(Piece(stop)) for stop in sampling.stop))


def _tensor(tensor: Tensor, change: Change) -> Tensor:
    """Text of a BYTES tensor is read; numbers are not."""
    _named(tensor.name, Mark(PUBLIC, "tensor"), change)
    if tensor.dtype != "BYTES":
        change(Piece(None, "prose", Mark(PUBLIC, "tensor")))
        return tensor
    data, at = bytes(tensor.data), 0
    elements: list[bytes] = []
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        element = data[at + 4 : at + 4 + size]
        at += 4 + size
        try:
            element = change(Piece(element.decode())).encode()
        except UnicodeDecodeError:
            change(Piece(None))
        elements.append(len(element).to_bytes(4, "little") + element)
    if at != len(data):
        change(Piece(None))
        return tensor
    return msgspec.structs.replace(tensor, data=b"".join(elements))


def _unread(value: Any, change: Change) -> Any:
    change(Piece(None))
    return value


def _named(text: str, mark: Mark, change: Change) -> str:
    """Show a text that must stay as it is."""
    change(Piece(text, "name", mark))
    return text


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if depth > MAX_DEPTH:
        raise TooLargeError(f"a schema is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield str(key)  # pyright: ignore[reportUnknownArgumentType]
            yield from _texts(inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(inner, depth + 1)
