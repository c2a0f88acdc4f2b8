"""Chat messages: their strict wire form, one struct per role, and what they become inside."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Audio, Message, Text, ToolCall
from catena.core.messages import Part as Shown
from catena.reach.gateway.protocols.openai.pictures import picture

MAX_MESSAGES = 4096


class TextPart(Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    """`cache_control` is what Anthropic's dialect adds; prompts with a common beginning share it anyway."""

    text: str
    cache_control: Any = None
    prompt_cache_breakpoint: Any = None


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class ImageUrl(Struct, frozen=True, forbid_unknown_fields=True):
    """`detail` is a matter of the model: the image goes to it as it is."""

    url: str
    detail: Literal["low", "high", "auto", "original"] | None = None


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    image_url: ImageUrl | None = None
    prompt_cache_breakpoint: Any = None


class InputAudio(Struct, frozen=True, forbid_unknown_fields=True):
    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio", forbid_unknown_fields=True):
    input_audio: InputAudio | None = None
    prompt_cache_breakpoint: Any = None


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
    """The conversation. Raises InputError (param `messages[i]…`) or UnsupportedError."""
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
                found.append(Message("user", _shown(turn.content, where), name=turn.name))
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
    """The texts of a content that holds nothing else. Raises UnsupportedError for images, sounds and files."""
    found: list[Text] = []
    for index, part in enumerate(_shown(content, where)):
        if not isinstance(part, Text):
            place = f"{where}.content[{index}]"
            raise UnsupportedError(f"{where}: images and sounds belong in turns of the user", param=place)
        found.append(part)
    return tuple(found)


def _shown(content: str | list[Part], where: str) -> tuple[Shown, ...]:
    """All that a content shows. Raises InputError for what is no image or sound, UnsupportedError for files."""
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))


def _part(part: Part, where: str) -> Shown:
    match part:
        case TextPart():
            return Text(part.text)
        case RefusalPart():
            return Text(part.refusal)
        case ImagePart():
            if part.image_url is None:
                raise InputError(f"{where}: an image needs image_url", param=where, hint="send a data: URL")
            return picture(part.image_url.url, where)
        case AudioPart():
            if part.input_audio is None:
                raise InputError(f"{where}: a sound needs input_audio", param=where, hint="send data and format")
            return _sound(part.input_audio, where)
        case FilePart():
            raise UnsupportedError(f"{where}: files are not read", param=where, hint="send the text of the file")


def _sound(wire: InputAudio, where: str) -> Audio:
    try:
        data = base64.b64decode(wire.data, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}: not base64", param=where) from None
    if not data:
        raise InputError(f"{where}: the sound is empty", param=where)
    return Audio(data, {"wav": "audio/wav", "mp3": "audio/mpeg"}[wire.format])
