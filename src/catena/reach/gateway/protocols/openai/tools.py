"""Functions that a model may call, and which of them it shall: what chat and responses share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import OutputFormat, Tool, ToolChoice

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Function(Struct, frozen=True):
    """A function as a caller describes it; without `parameters` it takes none."""

    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


def tools_of(functions: Iterable[tuple[str, Function]]) -> tuple[Tool, ...]:
    """The tools, each given with its place in the request. Raises InputError naming that place."""
    found: dict[str, Tool] = {}
    for where, function in functions:
        if len(found) == MAX_TOOLS:
            raise InputError(f"at most {MAX_TOOLS} tools", param="tools")
        check_name(function.name, where)
        if function.name in found:
            raise InputError(f"{where}: two tools have this name", param=f"{where}.name")
        schema = function.parameters or {"type": "object", "properties": {}}
        if schema.get("type", "object") != "object":
            raise InputError(f"{where}: parameters must be a schema of type object", param=f"{where}.parameters")
        found[function.name] = Tool(function.name, function.description or "", schema, bool(function.strict))
    return tuple(found.values())


def check_name(name: str, where: str) -> None:
    """Raise InputError, naming the place, for a name that no tool may have."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: a name has 1 to 64 letters, digits, _ or -", param=f"{where}.name")


def choice_of(word: str | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """What a single word of `tool_choice` asks for. Raises InputError for `required` without tools, and other words."""
    match word:
        case None:
            return ToolChoice()
        case "none" | "auto":
            return ToolChoice(word)
        case "required":
            if not tools:
                raise InputError("tool_choice required needs tools", param="tool_choice")
            return ToolChoice("required")
        case _:
            raise InputError("tool_choice takes none, auto, required or one function", param="tool_choice")


def named(name: str, tools: tuple[Tool, ...]) -> ToolChoice:
    """Exactly this function. Raises InputError when it is not among `tools`."""
    if name not in {tool.name for tool in tools}:
        raise InputError("tool_choice names a function that is not among tools", param="tool_choice")
    return ToolChoice("named", name)


def check_output(tools: tuple[Tool, ...], choice: ToolChoice, output: OutputFormat, param: str) -> None:
    """Raise UnsupportedError, naming `param`, when calls and a form of the answer are wanted at once."""
    if tools and choice.mode != "none" and output.kind != "text":
        raise UnsupportedError("tools and an output format exclude one another here", param=param)
