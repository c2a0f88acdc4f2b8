"""Turns of a conversation, checked and turned into messages: one message per turn, and one per result of a tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Message, Part, Text, ToolCall
from catena.reach.gateway.protocols.anthropic import blocks, fields, signing
from catena.reach.gateway.protocols.anthropic.blocks import TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from catena.reach.gateway.wire import check_fields, convert

MAX_TURNS = 4096
BETWEEN_TURNS = Text("\n\n")
Content = str | list[dict[str, Any]]
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
encode = msgspec.json.Encoder().encode


class Turn(Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: Content


class Reader:
    """Reads one conversation; `warnings` gets what is left out of it."""

    def __init__(self, salt: signing.Salt, warnings: list[str]) -> None:
        self._salt = salt
        self._warnings = warnings
        self._called: set[str] = set()
        self._answered: set[str] = set()
        self._found: list[Message] = []

    def messages(self, system: Content | None, turns: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
        """The whole conversation. Raises InputError (param `messages[i]…`) or UnsupportedError."""
        if not turns:
            raise InputError("messages must not be empty", param="messages")
        if len(turns) > MAX_TURNS:
            raise InputError(f"at most {MAX_TURNS} messages", param="messages")
        if system and (parts := blocks.texts(system, "system", self._warnings)):
            self._found.append(Message("system", parts))
        for index, raw in enumerate(turns):
            where = f"messages[{index}]"
            check_fields(raw, fields.TURN, self._warnings, f"{where}.")
            self._turn(convert(raw, Turn, where), f"{where}.content")
        if self._found and self._found[-1].role == "assistant":
            raise UnsupportedError(
                "an answer cannot be begun by the caller: the last turn must be of the user",
                hint="say in the prompt how the answer is to begin",
                param="messages",
            )
        if not any(message.role != "system" for message in self._found):
            raise InputError("messages holds nothing that could be answered", param="messages")
        return tuple(self._found)

    def _turn(self, turn: Turn, where: str) -> None:
        match turn.role:
            case "system":
                self._add(Message("system", blocks.texts(turn.content, where, self._warnings)))
            case "user":
                self._user(turn.content, where)
            case "assistant":
                self._assistant(turn.content, where)

    def _user(self, content: Content, where: str) -> None:
        parts: list[Part] = []
        for place, block in blocks.listed(content, where, self._warnings):
            if not isinstance(block, ToolResultBlock):
                parts += blocks.shown(block, place, self._warnings)
            elif parts:
                raise InputError(f"{place}: results of tools come first in a turn", param=place)
            else:
                self._found.append(self._result(block, place))
        self._add(Message("user", tuple(parts)))

    def _result(self, block: ToolResultBlock, where: str) -> Message:
        if block.tool_use_id not in self._called:
            raise InputError(f"{where}: no earlier tool_use has this id", param=f"{where}.tool_use_id")
        if block.tool_use_id in self._answered:
            raise InputError(f"{where}: this tool_use has a result already", param=f"{where}.tool_use_id")
        self._answered.add(block.tool_use_id)
        parts: list[Part] = [Text("Error: ")] if block.is_error else []
        for place, inner in blocks.listed(block.content, f"{where}.content", self._warnings):
            parts += blocks.shown(inner, place, self._warnings)
        return Message("tool", tuple(parts), tool_call_id=block.tool_use_id)

    def _assistant(self, content: Content, where: str) -> None:
        parts: list[Part] = []
        calls: list[ToolCall] = []
        reasoning: list[str] = []
        seals: list[str] = []
        for place, block in blocks.listed(content, where, self._warnings):
            match block:
                case TextBlock(text):
                    parts.append(Text(text))
                case ThinkingBlock(thinking, signature):
                    text = self._verified(thinking, signature, place)
                    if text is not None:
                        reasoning.append(text)
                        seals += signing.carried(signature)
                case ToolUseBlock():
                    calls.append(self._call(block, place))
                case _:
                    raise InputError(f"{place}: the assistant does not write blocks of this type", param=place)
        thoughts = "".join(reasoning)
        self._add(Message("assistant", tuple(parts), tuple(calls), reasoning=thoughts, seals=tuple(seals)))

    def _call(self, block: ToolUseBlock, where: str) -> ToolCall:
        if not _ID.fullmatch(block.id):
            raise InputError(f"{where}: an id has 1 to 128 letters, digits, _ or -", param=f"{where}.id")
        if block.id in self._called:
            raise InputError(f"{where}: another tool_use has this id", param=f"{where}.id")
        self._called.add(block.id)
        return ToolCall(block.id, block.name, encode(block.input).decode())

    def _verified(self, thinking: str, signature: str, where: str) -> str | None:
        match signing.check(self._salt, signature, thinking):
            case "ours":
                return thinking
            case "foreign":
                warning = "thinking left out: another model made it"
                if warning not in self._warnings:
                    self._warnings.append(warning)
                return None
            case "changed":
                raise InputError(
                    f"{where}: the signature does not fit the thinking",
                    hint="send thinking blocks back as they came, or leave them out",
                    param=f"{where}.signature",
                )

    def _add(self, message: Message) -> None:
        """Append `message`, joined to the last one where the same side speaks on."""
        if not (message.parts or message.tool_calls or message.reasoning or message.seals):
            return
        last = self._found[-1] if self._found else None
        if last is None or last.role != message.role or message.role == "system":
            self._found.append(message)
            return
        between = (BETWEEN_TURNS,) if last.parts and message.parts else ()
        self._found[-1] = Message(
            message.role,
            (*last.parts, *between, *message.parts),
            (*last.tool_calls, *message.tool_calls),
            reasoning=last.reasoning + message.reasoning,
            seals=(*last.seals, *message.seals),
        )
