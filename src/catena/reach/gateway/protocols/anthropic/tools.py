"""Tools of the client's own and the choice among them; tools that a server would run are refused by table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Tool, ToolChoice
from catena.reach.gateway.protocols.anthropic import fields
from catena.reach.gateway.wire import check_fields, convert

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DATE = re.compile(r"_\d{8}$")


class ToolWire(Struct, frozen=True):
    name: str
    input_schema: dict[str, Any]
    description: str = ""
    strict: bool = False


class ChoiceWire(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


def tools(wires: Sequence[Mapping[str, Any]], warnings: list[str]) -> tuple[Tool, ...]:
    """The tools that are offered. Raises InputError (param `tools[i]…`), UnsupportedError for other types."""
    if len(wires) > MAX_TOOLS:
        raise InputError(f"at most {MAX_TOOLS} tools", param="tools")
    found: dict[str, Tool] = {}
    for index, raw in enumerate(wires):
        where = f"tools[{index}]"
        _check_type(raw.get("type") or "custom", where)
        rest = {name: value for name, value in raw.items() if name != "type" and value is not None}
        check_fields(rest, fields.TOOL, warnings, f"{where}.")
        wire = convert(rest, ToolWire, where)
        if not _NAME.fullmatch(wire.name):
            raise InputError(f"{where}: a name has 1 to 128 letters, digits, _ or -", param=f"{where}.name")
        if wire.name in found:
            raise InputError(f"{where}: two tools have this name", param=f"{where}.name")
        if wire.input_schema.get("type") != "object":
            raise InputError(f"{where}: input_schema has type object", param=f"{where}.input_schema.type")
        found[wire.name] = Tool(wire.name, wire.description, wire.input_schema, wire.strict)
    return tuple(found.values())


def choice(wire: ChoiceWire | None, offered: tuple[Tool, ...]) -> tuple[ToolChoice, bool]:
    """The choice, and whether several calls may be made at once. Raises InputError."""
    if wire is None:
        return ToolChoice(), True
    if wire.type != "tool" and wire.name is not None:
        raise InputError("only a choice of type tool has a name", param="tool_choice.name")
    is_parallel = not wire.disable_parallel_tool_use
    match wire.type:
        case "none":
            return ToolChoice("none"), is_parallel
        case "auto":
            return ToolChoice("auto"), is_parallel
        case "any":
            if not offered:
                raise InputError("tool_choice any needs tools", param="tool_choice")
            return ToolChoice("required"), is_parallel
        case "tool":
            if wire.name not in {tool.name for tool in offered}:
                raise InputError("tool_choice names a tool that is not among tools", param="tool_choice.name")
            return ToolChoice("named", wire.name), is_parallel


def _check_type(kind: Any, where: str) -> None:
    if not isinstance(kind, str):
        raise InputError(f"{where}.type: a text", param=f"{where}.type")
    known = fields.TOOLS.get(_DATE.sub("_*", kind))
    if known is None:
        near = difflib.get_close_matches(kind[:64], fields.TOOLS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "send tools of type custom"
        raise InputError(f"{where}: there is no such type of tool", param=f"{where}.type", hint=hint)
    if known.treatment == "refused":
        raise UnsupportedError(f"{where}: tools of type {kind} are not supported: {known.note}", param=f"{where}.type")
