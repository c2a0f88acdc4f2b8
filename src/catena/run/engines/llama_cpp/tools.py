"""Tool calls for models whose chat template knows no tools: how they are asked for, and read out of the stream."""

from __future__ import annotations

import json

from msgspec import Struct

from catena.core.errors import EngineError
from catena.core.ids import new_id
from catena.core.messages import Delta, Message, Text, Tool, ToolCallDelta, ToolChoice, message_text
from catena.run.engines.llama_cpp.grammar import CALL_CLOSE, CALL_OPEN, closing, opening


def instruct(messages: tuple[Message, ...], tools: tuple[Tool, ...], choice: ToolChoice) -> tuple[Message, ...]:
    """`messages` with the tools described in the system message, and past calls and results as text."""
    told = tuple(_as_text(message) for message in messages)
    if not tools:
        return told
    note = _note(tools, choice)
    if told and told[0].role == "system":
        first = Message("system", (Text(f"{message_text(told[0])}\n\n{note}"),))
        return (first, *told[1:])
    return (Message("system", (Text(note),)), *told)


def _note(tools: tuple[Tool, ...], choice: ToolChoice) -> str:
    lines = [
        "You can call functions. To call one, write only this, with its name and arguments:",
        f'{CALL_OPEN}{{"name": "NAME", "arguments": {{...}}}}{CALL_CLOSE}',
        "The functions, one per line:",
    ]
    lines += [
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}, ensure_ascii=False
        )
        for tool in tools
    ]
    free = "If no function helps, answer in plain text."
    lines.append(free if choice.mode == "auto" else "You must call a function now.")
    return "\n".join(lines)


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", (Text(f"<tool_response>\n{message_text(message)}\n</tool_response>"),))
    if not message.tool_calls:
        return message
    calls = [
        f'{CALL_OPEN}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}{CALL_CLOSE}'
        for call in message.tool_calls
    ]
    return Message("assistant", (Text("\n".join(filter(None, [message_text(message), *calls]))),))


class _Depth(Struct):
    """Where a JSON object stands that arrives in pieces."""

    level: int = 0
    is_string: bool = False
    is_escaped: bool = False

    def end(self, text: str) -> int | None:
        """The index after the character that closes the object, None if `text` does not close it."""
        for index, character in enumerate(text):
            if self.is_escaped:
                self.is_escaped = False
            elif self.is_string:
                self.is_escaped = character == "\\"
                self.is_string = character != '"'
            elif character == '"':
                self.is_string = True
            elif character in "{[":
                self.level += 1
            elif character in "}]":
                self.level -= 1
                if not self.level:
                    return index + 1
        return None


class CallReader:
    """Turns the text of one choice, as it streams, into calls; text that does not begin a call passes through."""

    def __init__(self, choice: int, tools: tuple[Tool, ...]) -> None:
        self.num_calls = 0
        self._choice = choice
        self._openings = {opening(tool): tool.name for tool in tools}
        self._longest = max(map(len, self._openings))
        self._held = ""
        self._is_plain = False
        self._is_closing = False
        self._depth: _Depth | None = None

    def feed(self, text: str) -> list[Delta | ToolCallDelta]:
        """The events that `text` completes. Raises EngineError if the calls do not follow their grammar."""
        if self._is_plain:
            return [Delta(self._choice, text)]
        self._held += text
        events: list[Delta | ToolCallDelta] = []
        while self._held:
            before = (self._held, self._depth is None)
            if self._depth is not None:
                self._arguments(events)
            elif self.num_calls and not self._skip_closing():
                break
            else:
                self._begin(events)
            if before == (self._held, self._depth is None):
                break
        return events

    def finish(self) -> list[Delta | ToolCallDelta]:
        """What is still held back when the choice ends, if it is text."""
        if self._is_plain or self.num_calls or not self._held:
            return []
        held, self._held = self._held, ""
        return [Delta(self._choice, held)]

    def _begin(self, events: list[Delta | ToolCallDelta]) -> None:
        for start, name in self._openings.items():
            if self._held.startswith(start):
                self._held = self._held[len(start) :]
                self._depth = _Depth()
                events.append(ToolCallDelta(self._choice, self.num_calls, id=new_id("call"), name=name))
                self.num_calls += 1
                return
        if any(start.startswith(self._held) for start in self._openings):
            return
        if self.num_calls:
            raise EngineError("llama.cpp broke the grammar of a tool call")
        self._is_plain = True
        events.append(Delta(self._choice, self._held))
        self._held = ""

    def _arguments(self, events: list[Delta | ToolCallDelta]) -> None:
        assert self._depth is not None
        end = self._depth.end(self._held)
        piece = self._held if end is None else self._held[:end]
        self._held = self._held[len(piece) :]
        if end is not None:
            self._depth = None
            self._is_closing = True
        events.append(ToolCallDelta(self._choice, self.num_calls - 1, piece))

    def _skip_closing(self) -> bool:
        """Whether the end of the last call has been read, so that another may begin."""
        if not self._is_closing:
            return True
        if len(self._held) < len(closing()):
            return False
        if not self._held.startswith(closing()):
            raise EngineError("llama.cpp broke the grammar of a tool call")
        self._held = self._held[len(closing()) :]
        self._is_closing = False
        return bool(self._held)
