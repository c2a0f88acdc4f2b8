"""Chat messages: their strict wire form, one struct per role, and what they become inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Message, Text, ToolCall

MAX_MESSAGES = 4096


class TextPart(Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    """`cache_control` is what Anthropic's dialect adds; prompts with a common beginning share it anyway."""

    text: str
    cache_control: Any = None
    prompt_cache_breakpoint: Any = None


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    image_url: Any = None


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio"):
    input_audio: Any = None


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    file: Any = None


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | list[Part] | None


class CalledFunction(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: str


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """`index` is what clients leave in that put a call together from deltas."""

    id: str
    function: CalledFunction
    type: str = "function"
    index: int | None = None


class System(Struct, frozen=True, tag_field="role", tag="system", forbid_unknown_fields=True):
    content: str | list[Part]
    name: str | None = None


class Developer(Struct, frozen=True, tag_field="role", tag="developer", forbid_unknown_fields=True):
    content: str | list[Part]
    name: str | None = None


class User(Struct, frozen=True, tag_field="role", tag="user", forbid_unknown_fields=True):
    content: str | list[Part]
    name: str | None = None


class Assistant(Struct, frozen=True, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """An earlier answer, with every field that a client sends back when it repeats one as it came."""

    content: Content = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    parsed: Any = None


class ToolResult(Struct, frozen=True, tag_field="role", tag="tool", forbid_unknown_fields=True):
    content: str | list[Part]
    tool_call_id: str
    name: str | None = None


class FunctionResult(Struct, frozen=True, tag_field="role", tag="function"):
    content: Any = None


Turn = System | Developer | User | Assistant | ToolResult | FunctionResult


def messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The conversation. Raises InputError (param `messages[i]…`) or UnsupportedError for what is not text."""
    if not turns:
        raise InputError("messages must not be empty", param="messages")
    if len(turns) > MAX_MESSAGES:
        raise InputError(f"at most {MAX_MESSAGES} messages", param="messages")
    called: set[str] = set()
    found: list[Message] = []
    for index, turn in enumerate(turns):
        where = f"messages[{index}]"
        match turn:
            case System() | Developer():
                found.append(Message("system", _parts(turn.content, where), name=turn.name))
            case User():
                found.append(Message("user", _parts(turn.content, where), name=turn.name))
            case Assistant():
                message = _assistant(turn, where)
                called.update(call.id for call in message.tool_calls)
                found.append(message)
            case ToolResult():
                if turn.tool_call_id not in called:
                    raise InputError(
                        f"{where}: no earlier assistant message made this tool call", param=f"{where}.tool_call_id"
                    )
                found.append(Message("tool", _parts(turn.content, where), tool_call_id=turn.tool_call_id))
            case FunctionResult():
                raise UnsupportedError(f"{where}: role function is not supported", param=where, hint="use role tool")
    return tuple(found)


def _assistant(turn: Assistant, where: str) -> Message:
    if turn.audio is not None or turn.function_call is not None:
        raise UnsupportedError(
            f"{where}: audio and function_call are not supported", param=where, hint="use tool_calls"
        )
    calls: list[ToolCall] = []
    for call in turn.tool_calls or ():
        if call.type != "function":
            raise UnsupportedError(f"{where}: only functions can be called", param=f"{where}.tool_calls")
        calls.append(ToolCall(call.id, call.function.name, call.function.arguments))
    if turn.content is None and not calls and turn.refusal is None and not turn.reasoning_content:
        raise InputError(f"{where}: an assistant message needs content or tool_calls", param=f"{where}.content")
    parts = _parts(turn.content or "", where)
    if turn.refusal:
        parts = (*parts, Text(turn.refusal))
    reasoning = turn.reasoning_content or turn.reasoning or ""
    return Message("assistant", parts, tuple(calls), name=turn.name, reasoning=reasoning)


def _parts(content: str | list[Part], where: str) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    found: list[Text] = []
    for index, part in enumerate(content):
        match part:
            case TextPart():
                found.append(Text(part.text))
            case RefusalPart():
                found.append(Text(part.refusal))
            case ImagePart() | AudioPart() | FilePart():
                kind = {"ImagePart": "images", "AudioPart": "sounds"}.get(type(part).__name__, "files")
                raise UnsupportedError(
                    f"{where}: {kind} are not read yet", param=f"{where}.content[{index}]", hint="send text"
                )
    return tuple(found)
