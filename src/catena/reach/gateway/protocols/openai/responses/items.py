"""Items: their strict wire form, the form they are kept and shown in, and the conversation they make."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Message, Part, Text, ToolCall
from catena.reach.gateway.protocols.openai.pictures import picture
from catena.reach.gateway.protocols.openai.responses import fields
from catena.reach.gateway.wire import Field, convert

Item = dict[str, Any]
MAX_ITEMS = 4096
Status = Literal["in_progress", "completed", "incomplete"]
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


class TextPart(Struct, frozen=True, forbid_unknown_fields=True):
    """`input_text` and `output_text`, with what clients leave in that send an answer back."""

    type: str
    text: str
    annotations: Any = None
    logprobs: Any = None
    parsed: Any = None
    prompt_cache_breakpoint: Any = None


class RefusalPart(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    refusal: str


class ImagePart(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None
    prompt_cache_breakpoint: Any = None


class MessageItem(Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["user", "system", "developer", "assistant"]
    content: str | list[dict[str, Any]]
    type: str = "message"
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class CallItem(Struct, frozen=True, forbid_unknown_fields=True, rename={"is_async": "async"}):
    type: str
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    caller: Any = None
    namespace: str | None = None
    parsed_arguments: Any = None
    created_by: Any = None
    is_async: bool | None = None


class OutputItem(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    call_id: str
    output: str | list[dict[str, Any]]
    id: str | None = None
    status: Status | None = None
    caller: Any = None
    name: str | None = None
    namespace: str | None = None
    created_by: Any = None


class ReasoningPart(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    text: str


class ReasoningItem(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    summary: list[ReasoningPart] = []
    content: list[ReasoningPart] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: Status | None = None


class Reference(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    type: str | None = None


def read(value: str | list[dict[str, Any]]) -> list[Item]:
    """The items of `input` in the form they are kept in. Raises InputError or UnsupportedError naming the place."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not value:
        raise InputError("input must not be empty", param="input")
    if len(value) > MAX_ITEMS:
        raise InputError(f"at most {MAX_ITEMS} items", param="input")
    return [_read(item, f"input[{index}]") for index, item in enumerate(value)]


def identified(items: Sequence[Item], tail: str) -> list[Item]:
    """The items with an id each: their own, or one made of `tail` and their place."""
    return [{"id": f"{_PREFIXES[item['type']]}_{tail}_in{index}"} | item for index, item in enumerate(items)]


def messages(instructions: str | None, items: Sequence[Item], num_earlier: int = 0) -> tuple[Message, ...]:
    """The conversation: calls and reasoning join the turn of the assistant that they belong to.

    Places in errors count from the end of the `num_earlier` items that were kept. Raises InputError or
    UnsupportedError.
    """
    found: list[Message] = [Message("system", (Text(instructions),))] if instructions else []
    called: set[str] = set()
    turn = _Turn()
    for index, item in enumerate(items):
        where = f"input[{index - num_earlier}]"
        if item["type"] in ("reasoning", "function_call") or item.get("role") == "assistant":
            found += turn.take(item, where)
            if item["type"] == "function_call":
                called.add(item["call_id"])
            continue
        found += turn.end()
        if item["type"] == "message":
            role = "user" if item["role"] == "user" else "system"
            found.append(Message(role, _parts(item["content"], where)))
            continue
        if item["call_id"] not in called:
            raise InputError(f"{where}: no earlier item made this call", param=f"{where}.call_id")
        output = item["output"]
        parts = (Text(output),) if isinstance(output, str) else _parts(output, where)
        found.append(Message("tool", parts, tool_call_id=item["call_id"]))
    return (*found, *turn.end())


class _Turn:
    """A turn of the assistant while its items are read: reasoning, then words, then calls."""

    _reasoning: tuple[str, ...] = ()
    _seals: tuple[str, ...] = ()
    _parts: tuple[Part, ...] = ()
    _calls: tuple[ToolCall, ...] = ()

    def take(self, item: Item, where: str) -> tuple[Message, ...]:
        """Add an item; gives the turn before it, if this one begins another.

        Seals without a text of reasoning belong to what they come after.
        """
        is_late = item["type"] == "reasoning" and not (item.get("content") or item["summary"])
        is_next = item["type"] != "function_call" and not is_late and bool(self._parts or self._calls)
        before = self.end() if is_next else ()
        match item["type"]:
            case "reasoning":
                self._reasoning += tuple(part["text"] for part in item.get("content") or item["summary"])
                self._seals += _seals(item.get("encrypted_content"))
            case "function_call":
                self._calls += (ToolCall(item["call_id"], item["name"], item["arguments"]),)
            case _:
                self._parts = _parts(item["content"], where)
        return before

    def end(self) -> tuple[Message, ...]:
        """The turn so far, if there is one; the next begins."""
        reasoning, seals, parts, calls = "".join(self._reasoning), self._seals, self._parts, self._calls
        self._reasoning, self._seals, self._parts, self._calls = (), (), (), ()
        if not (reasoning or seals or parts or calls):
            return ()
        return (Message("assistant", parts, calls, reasoning=reasoning, seals=seals),)


def sealed(seals: Sequence[str]) -> str:
    """Seals as the `encrypted_content` of a reasoning item."""
    return msgspec.json.encode(seals).decode()


def _seals(content: str | None) -> tuple[str, ...]:
    """What `sealed` put together; of anything else, which another service made, nothing."""
    try:
        return msgspec.json.decode(content or "[]", type=tuple[str, ...])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ()


def kind_of(value: Mapping[str, Any], table: Mapping[str, Field], where: str) -> str:
    """The `type` of `value`, if `table` honours it. Raises InputError for an unknown one, UnsupportedError."""
    kind = value.get("type")
    if not isinstance(kind, str):
        raise InputError(f"{where}: type is missing", param=f"{where}.type")
    field = table.get(kind)
    if field is None:
        near = difflib.get_close_matches(kind[:64], table, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_honoured(table))}"
        raise InputError(f"{where}: this type is not known", param=f"{where}.type", hint=hint)
    if field.treatment == "refused":
        raise UnsupportedError(f"{where}: type {kind} is not supported: {field.note}", param=f"{where}.type")
    return kind


def _honoured(table: Mapping[str, Field]) -> Iterator[str]:
    return (name for name, field in table.items() if field.treatment == "honoured")


def _read(item: dict[str, Any], where: str) -> Item:
    item = {name: value for name, value in item.items() if value is not None}
    if "type" not in item:  # only messages and references may leave it out
        item["type"] = "item_reference" if set(item) == {"id"} else "message"
    match kind_of(item, fields.ITEMS, where):
        case "message":
            return _message(convert(item, MessageItem, where), where)
        case "function_call":
            call = convert(item, CallItem, where)
            named = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            return _kept(call, named | ({"namespace": call.namespace} if call.namespace else {}))
        case "function_call_output":
            result = convert(item, OutputItem, where)
            output = result.output
            shown = output if isinstance(output, str) else _contents(output, f"{where}.output", "user")
            return _kept(result, {"call_id": result.call_id, "output": shown})
        case "reasoning":
            reasoning = convert(item, ReasoningItem, where)
            content = reasoning.content or []
            parts = {
                "summary": [{"type": "summary_text", "text": part.text} for part in reasoning.summary],
                "content": [{"type": "reasoning_text", "text": part.text} for part in content],
            }
            if reasoning.encrypted_content:
                parts["encrypted_content"] = reasoning.encrypted_content  # type: ignore[assignment]
            return _kept(reasoning, parts)
        case _:
            return {"type": "item_reference", "id": convert(item, Reference, where).id}


def _message(message: MessageItem, where: str) -> Item:
    content = message.content
    if isinstance(content, str):
        content = [{"type": "output_text" if message.role == "assistant" else "input_text", "text": content}]
    shown = _contents(content, f"{where}.content", message.role)
    form = _kept(message, {"role": message.role, "content": shown})
    return form | {"phase": message.phase} if message.phase else form


def _kept(item: MessageItem | CallItem | OutputItem | ReasoningItem, rest: Mapping[str, Any]) -> Item:
    identity = {"id": item.id} if item.id else {}
    return {**identity, "type": item.type, "status": item.status or "completed", **rest}


def _contents(parts: list[dict[str, Any]], where: str, role: str) -> list[dict[str, Any]]:
    return [_content(part, f"{where}[{index}]", role) for index, part in enumerate(parts)]


def _content(part: dict[str, Any], where: str, role: str) -> dict[str, Any]:
    part = {name: value for name, value in part.items() if value is not None}
    match kind_of(part, fields.PARTS, where):
        case "input_image":
            image = convert(part, ImagePart, where)
            if image.file_id is not None or image.image_url is None:
                raise UnsupportedError(f"{where}: an image needs image_url", param=where, hint="send a data: URL")
            return {"type": "input_image", "image_url": image.image_url, "detail": image.detail or "auto"}
        case "refusal":
            return {"type": "refusal", "refusal": convert(part, RefusalPart, where).refusal}
        case _:
            text = convert(part, TextPart, where).text
            if role == "assistant":
                return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
            return {"type": "input_text", "text": text}


def _parts(content: Sequence[Mapping[str, Any]], where: str) -> tuple[Part, ...]:
    found: list[Part] = []
    for index, part in enumerate(content):
        match part["type"]:
            case "input_image":
                found.append(picture(part["image_url"], f"{where}.content[{index}].image_url"))
            case "refusal":
                found.append(Text(part["refusal"]))
            case _:
                if part["text"]:
                    found.append(Text(part["text"]))
    return tuple(found)
