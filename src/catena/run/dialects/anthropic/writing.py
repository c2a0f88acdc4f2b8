"""Requests in the words of the Messages API.

https://platform.claude.com/docs/en/api/messages/create, and for the limits named below the pages beside it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from catena.core.messages import ChatRequest, CompletionRequest, GenerateRequest, Image, Message, Part, Text, Tool
from catena.run.dialects.anthropic import seals
from catena.run.dialects.dialect import Outgoing, impossible, lost
from catena.run.dialects.shapes import JSON, arguments, encode, texts

NAME = "anthropic"
# The API asks for a limit; this one is used where the caller names none.
MAX_TOKENS = 8192
MIN_BUDGET = 1024
MAX_TEMPERATURE = 1.0
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_CARRIED = ("temperature", "top_p", "top_k", "think", "parallel_tool_calls")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Models of Anthropic from 4.6 on are asked for adaptive thinking, all others, also those of other makers, for thinking
# with a budget: https://platform.claude.com/docs/en/build-with-claude/extended-thinking.
_ADAPTIVE = re.compile(r"claude-[a-z]+-(?:[5-9]|4-[6-9]|[1-9]\d)(?:\D|$)")


def generate(request: GenerateRequest, model: str) -> Outgoing:
    """POST /v1/messages. Raises UnsupportedError, InputError for arguments of a call that are no object."""
    names = list(lost(request, _CARRIED))
    body = _prompt(request, model, names) | {"stream": True}
    _sampling(request, body, names)
    if isinstance(request, ChatRequest):
        _thinking(request, model, body, names)
    return Outgoing("/v1/messages", encode(body), JSON, lost=tuple(dict.fromkeys(names)))


def count(request: GenerateRequest, model: str) -> Outgoing:
    """POST /v1/messages/count_tokens, with the same prompt as `generate`."""
    names: list[str] = []
    body = _prompt(request, model, names)
    return Outgoing("/v1/messages/count_tokens", encode(body), JSON, lost=tuple(dict.fromkeys(names)))


def _prompt(request: GenerateRequest, model: str, names: list[str]) -> dict[str, Any]:
    if request.adapters:
        raise impossible(NAME, "adapters", "adapters")
    body: dict[str, Any] = {"model": model}
    if isinstance(request, CompletionRequest):
        body["messages"] = [{"role": "user", "content": _raw(request)}]
        names.append("prompt")
    else:
        system, rest = _split(request.messages, names)
        if system:
            body["system"] = [{"type": "text", "text": text} for text in system]
        body["messages"] = turns(rest, names)
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
            if choice := _choice(request):
                body["tool_choice"] = choice
    match request.output.kind:
        case "text":
            pass
        case "schema":
            body["output_config"] = {"format": {"type": "json_schema", "schema": request.output.schema or {}}}
        case "json":
            raise impossible(NAME, "JSON without a schema", "response_format")
        case "grammar":
            raise impossible(NAME, "a grammar", "grammar")
    return body


def _raw(request: CompletionRequest) -> str:
    """The text to be continued, which becomes a turn of the user: the API has no other way to ask."""
    if not isinstance(request.prompt, str):
        raise impossible(NAME, "a prompt of token ids", "prompt")
    if request.suffix:
        raise impossible(NAME, "a suffix", "suffix")
    return request.prompt


def _split(messages: Sequence[Message], names: list[str]) -> tuple[list[str], list[Message]]:
    """What the system says, which stands before all turns, and the turns."""
    system = [message for message in messages if message.role == "system"]
    if any(message.role == "system" for message in messages[len(system) :]):
        names.append("messages.system")
    return texts(system), [message for message in messages if message.role != "system"]


def turns(messages: Sequence[Message], names: list[str]) -> list[dict[str, Any]]:
    """The conversation: results of tools are blocks of the user, and one side speaks in one turn."""
    found: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.name:
            names.append("messages.name")
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _assistant(message, where, names) if role == "assistant" else _user(message, where)
        if blocks and found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        elif blocks:
            found.append({"role": role, "content": blocks})
    return found


def _user(message: Message, where: str) -> list[dict[str, Any]]:
    parts = [_part(part, where) for part in message.parts if not isinstance(part, Text) or part.text]
    if message.role != "tool":
        return parts
    return [{"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": parts}]


def _assistant(message: Message, where: str, names: list[str]) -> list[dict[str, Any]]:
    thoughts = seals.blocks(message)
    if thoughts is None:
        names.append("messages.reasoning")
    said = [_part(part, where) for part in message.parts if not isinstance(part, Text) or part.text]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments(call, f"{where}.tool_calls")}
        for call in message.tool_calls
    ]
    return [*(thoughts or ()), *said, *calls]


def _part(part: Part, where: str) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if not isinstance(part, Image):
        raise impossible(NAME, "sounds", where)
    if part.media_type not in IMAGE_TYPES:
        raise impossible(NAME, f"images but of {', '.join(IMAGE_TYPES)}", where)
    data = base64.b64encode(part.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def _tool(tool: Tool) -> dict[str, Any]:
    if not _TOOL_NAME.fullmatch(tool.name):
        raise impossible(NAME, "names of tools with other signs than letters, digits, _ and -", "tools")
    form: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **tool.parameters}}
    if tool.description:
        form["description"] = tool.description
    return form | ({"strict": True} if tool.strict else {})


def _choice(request: ChatRequest) -> dict[str, Any] | None:
    single = {} if request.parallel_tool_calls else {"disable_parallel_tool_use": True}
    match request.tool_choice.mode:
        case "auto":
            return {"type": "auto", **single} if single else None
        case "none":
            return {"type": "none"}
        case "required":
            return {"type": "any", **single}
        case "named":
            return {"type": "tool", "name": request.tool_choice.name, **single}


def _sampling(request: GenerateRequest, body: dict[str, Any], names: list[str]) -> None:
    wished = request.sampling
    if wished.num_choices != 1:
        raise impossible(NAME, "more than one choice", "n")
    if wished.logprobs is not None:
        raise impossible(NAME, "log probabilities", "logprobs")
    if any(not stop.strip() for stop in wished.stop):
        raise impossible(NAME, "a stop text of white space alone", "stop")
    body["max_tokens"] = wished.max_tokens or MAX_TOKENS
    if wished.stop:
        body["stop_sequences"] = list(wished.stop)
    if wished.temperature is not None:
        body["temperature"] = min(wished.temperature, MAX_TEMPERATURE)
        if wished.temperature > MAX_TEMPERATURE:
            names.append("sampling.temperature")
    if wished.top_p is not None:
        body["top_p"] = wished.top_p
    if wished.top_k is not None:
        body["top_k"] = wished.top_k


def _thinking(request: ChatRequest, model: str, body: dict[str, Any], names: list[str]) -> None:
    """Thinking goes with no forced call, and with no temperature or top_k of the caller's; a call comes first."""
    if request.think is False:
        body["thinking"] = {"type": "disabled"}
    if not request.think:
        return
    room = body["max_tokens"]
    if request.tool_choice.mode in ("required", "named"):
        names.append("think")
        return
    if _ADAPTIVE.search(model):
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
    elif room > MIN_BUDGET:
        body["thinking"] = {"type": "enabled", "budget_tokens": max(MIN_BUDGET, room // 2)}
    else:
        names.append("think")
        return
    for name in ("temperature", "top_k"):
        if body.pop(name, None) is not None:
            names.append(f"sampling.{name}")
