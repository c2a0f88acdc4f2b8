"""Turns and tools as Ollama's clients write them: pictures beside the text, arguments as objects, results by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Image, Message, Text, Tool, ToolCall, ToolChoice
from catena.reach.gateway.protocols.ollama.reading import images

MAX_MESSAGES = 2048
MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
encode = msgspec.json.Encoder().encode


class CalledFunction(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any] = {}
    index: int | None = None
    description: str | None = None


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """`id` and `index` are what we send; the official clients lose the id when they send a call back."""

    function: CalledFunction
    id: str | None = None
    type: str | None = None


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """One message. `name` is the older word for `tool_name`."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    name: str | None = None


class FunctionWire(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolWire(Struct, frozen=True, forbid_unknown_fields=True):
    function: FunctionWire
    type: str | None = None
    items: Any = None


class NamedFunction(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class NamedTool(Struct, frozen=True, forbid_unknown_fields=True):
    function: NamedFunction
    type: str = "function"


def messages(turns: Sequence[Turn], where: str = "messages") -> tuple[Message, ...]:
    """The conversation. Raises InputError naming the turn.

    A result belongs to the call with its id; without an id, to the oldest call that has none yet: of its `tool_name`,
    where that is given.
    """
    if len(turns) > MAX_MESSAGES:
        raise InputError(f"at most {MAX_MESSAGES} messages", param=where)
    waiting: list[ToolCall] = []
    num_calls = 0
    found: list[Message] = []
    for index, turn in enumerate(turns):
        place = f"{where}[{index}]"
        parts = _parts(turn, place)
        match turn.role:
            case "system":
                found.append(Message("system", parts))
            case "user":
                found.append(Message("user", parts))
            case "assistant":
                calls = _calls(turn, num_calls)
                num_calls += len(calls)
                waiting += calls
                found.append(Message("assistant", parts, calls, reasoning=turn.thinking or ""))
            case "tool":
                found.append(Message("tool", parts, tool_call_id=_answered(turn, waiting, place)))
            case _:
                raise InputError(f"{place}: role must be system, user, assistant or tool", param=f"{place}.role")
    return tuple(found)


def tools(wires: Sequence[ToolWire] | None) -> tuple[Tool, ...]:
    """The functions that may be called. Raises InputError naming one."""
    if wires and len(wires) > MAX_TOOLS:
        raise InputError(f"at most {MAX_TOOLS} tools", param="tools")
    found: dict[str, Tool] = {}
    for index, wire in enumerate(wires or ()):
        where = f"tools[{index}]"
        if wire.type not in (None, "function"):
            raise UnsupportedError(f"{where}: only tools of type function are supported", param=f"{where}.type")
        function = wire.function
        if not _NAME.fullmatch(function.name):
            raise InputError(f"{where}: a name has 1 to 64 letters, digits, _ . or -", param=f"{where}.function.name")
        if function.name in found:
            raise InputError(f"{where}: two tools have this name", param=f"{where}.function.name")
        schema = function.parameters or {"type": "object", "properties": {}}
        if schema.get("type", "object") != "object":
            raise InputError(
                f"{where}: parameters must be a schema of type object", param=f"{where}.function.parameters"
            )
        found[function.name] = Tool(function.name, function.description or "", schema)
    return tuple(found.values())


def tool_choice(wire: str | NamedTool | None, offered: Sequence[Tool]) -> ToolChoice:
    """Which tool must or may be called. Raises InputError."""
    match wire:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            if not offered:
                raise InputError("tool_choice required needs tools", param="tool_choice")
            return ToolChoice("required")
        case NamedTool():
            if wire.function.name not in {tool.name for tool in offered}:
                raise InputError("tool_choice names a function that is not among tools", param="tool_choice")
            return ToolChoice("named", wire.function.name)
        case _:
            raise InputError("tool_choice takes none, auto, required or one function", param="tool_choice")


def _parts(turn: Turn, where: str) -> tuple[Text | Image, ...]:
    text = (Text(turn.content),) if turn.content else ()
    return (*text, *images(turn.images, f"{where}.images"))


def _calls(turn: Turn, num_before: int) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(call.id or f"call_{num_before + index}", call.function.name, encode(call.function.arguments).decode())
        for index, call in enumerate(turn.tool_calls or ())
    )


def _answered(turn: Turn, waiting: list[ToolCall], where: str) -> str:
    """The id of the call that a result belongs to, which then waits no more."""
    name = turn.tool_name or turn.name
    for call in waiting:
        if call.id == turn.tool_call_id if turn.tool_call_id else name in (None, call.name):
            waiting.remove(call)
            return call.id
    raise InputError(
        f"{where}: no earlier assistant message made this tool call",
        param=where,
        hint="send the assistant message with its tool_calls before the result",
    )
