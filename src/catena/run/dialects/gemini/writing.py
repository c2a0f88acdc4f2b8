"""Requests in the words of the Gemini API.

https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/function-calling,
https://ai.google.dev/gemini-api/docs/structured-output, https://ai.google.dev/gemini-api/docs/thinking
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from catena.core.errors import InputError
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    GenerateRequest,
    Image,
    Message,
    Part,
    Text,
    Tool,
)
from catena.run.dialects.dialect import Outgoing, impossible, lost
from catena.run.dialects.gemini import seals
from catena.run.dialects.shapes import JSON, arguments, encode, texts

NAME = "gemini"
MAX_STOPS = 5
MAX_CHOICES = 8
MAX_SEED = (1 << 31) - 1
# https://ai.google.dev/gemini-api/docs/image-understanding, https://ai.google.dev/gemini-api/docs/audio
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
SOUND_TYPES = ("audio/wav", "audio/mp3", "audio/mpeg", "audio/aiff", "audio/aac", "audio/ogg", "audio/flac")
# What the API takes in place of a signature for a call that another model made.
OTHER_MAKER = "context_engineering_is_the_way_to_go"
_CARRIED = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed", "think")
_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_SINCE_3 = re.compile(r"gemini-(?:[3-9]|\d\d)")


def generate(request: GenerateRequest, model: str) -> Outgoing:
    """POST models/MODEL:streamGenerateContent. Raises UnsupportedError, InputError for what tools cannot have said."""
    names = list(lost(request, _CARRIED))
    body = _content(request, model, names)
    config = _sampling(request, names) | _output(request)
    if isinstance(request, ChatRequest) and (thinking := _thinking(request.think, model, names)):
        config["thinkingConfig"] = thinking
    if config:
        body["generationConfig"] = config
    path = f"/v1beta/{resource(model)}:streamGenerateContent?alt=sse"
    return Outgoing(path, encode(body), JSON, lost=tuple(dict.fromkeys(names)))


def count(request: GenerateRequest, model: str) -> Outgoing:
    """POST models/MODEL:countTokens, with the same prompt as `generate`."""
    names: list[str] = []
    body = {"generateContentRequest": {"model": resource(model), **_content(request, model, names)}}
    path = f"/v1beta/{resource(model)}:countTokens"
    return Outgoing(path, encode(body), JSON, lost=tuple(dict.fromkeys(names)))


def embed(request: EmbedRequest, model: str) -> Outgoing:
    """POST models/MODEL:batchEmbedContents. Raises UnsupportedError for token ids."""
    size = {} if request.dimensions is None else {"outputDimensionality": request.dimensions}
    asked: list[dict[str, Any]] = []
    for text in request.inputs:
        if not isinstance(text, str):
            raise impossible(NAME, "texts as token ids", "input")
        asked.append({"model": resource(model), "content": {"parts": [{"text": text}]}, **size})
    return Outgoing(f"/v1beta/{resource(model)}:batchEmbedContents", encode({"requests": asked}), JSON)


def resource(model: str) -> str:
    """What the API calls a model: with its collection, `models/` unless another is named."""
    name = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    return quote(name, safe="/")


def _content(request: GenerateRequest, model: str, names: list[str]) -> dict[str, Any]:
    if request.adapters:
        raise impossible(NAME, "adapters", "adapters")
    if isinstance(request, CompletionRequest):
        if not isinstance(request.prompt, str):
            raise impossible(NAME, "a prompt of token ids", "prompt")
        if request.suffix:
            raise impossible(NAME, "a suffix", "suffix")
        names.append("prompt")
        return {"contents": [{"role": "user", "parts": [{"text": request.prompt}]}]}
    body: dict[str, Any] = {}
    system = [message for message in request.messages if message.role == "system"]
    if any(message.role == "system" for message in request.messages[len(system) :]):
        names.append("messages.system")
    if said := texts(system):
        body["systemInstruction"] = {"parts": [{"text": text} for text in said]}
    rest = [message for message in request.messages if message.role != "system"]
    body["contents"] = turns(rest, model, names)
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        body["toolConfig"] = {"functionCallingConfig": _choice(request)}
    return body


def turns(messages: Sequence[Message], model: str, names: list[str]) -> list[dict[str, Any]]:
    """The conversation: results of tools are parts of the user, and one side speaks in one turn."""
    called: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.name:
            names.append("messages.name")
        match message.role:
            case "assistant":
                called |= {call.id: call.name for call in message.tool_calls}
                parts = _model(message, where, model, names)
            case "tool":
                parts = [_result(message, called, where)]
            case _:
                parts = [_part(part, where) for part in message.parts if not isinstance(part, Text) or part.text]
        role = "model" if message.role == "assistant" else "user"
        if parts and found and found[-1]["role"] == role:
            found[-1]["parts"] += parts
        elif parts:
            found.append({"role": role, "parts": parts})
    return found


def _model(message: Message, where: str, model: str, names: list[str]) -> list[dict[str, Any]]:
    said, signed, is_whole = seals.parts(message)
    if not is_whole:
        names.append("messages.reasoning")
    calls: list[dict[str, Any]] = []
    for number, call in enumerate(message.tool_calls):
        given = {"id": call.id, "name": call.name, "args": arguments(call, f"{where}.tool_calls")}
        part: dict[str, Any] = {"functionCall": given}
        if number in signed:
            part["thoughtSignature"] = signed[number]
        elif number == 0 and _SINCE_3.search(model):
            part["thoughtSignature"] = OTHER_MAKER
        calls.append(part)
    seen = [_part(part, where) for part in message.parts if not isinstance(part, Text)]
    return [*said, *seen, *calls]


def _result(message: Message, called: dict[str, str], where: str) -> dict[str, Any]:
    """The result of a call, under the name that was called. Raises InputError if nothing was."""
    name = called.get(message.tool_call_id or "")
    if name is None:
        raise InputError(f"{where}: no earlier assistant message made this tool call", param=where)
    form: dict[str, Any] = {"id": message.tool_call_id, "name": name}
    form["response"] = {"output": "".join(texts([message]))}
    if seen := [_part(part, where) for part in message.parts if not isinstance(part, Text)]:
        form["parts"] = seen
    return {"functionResponse": form}


def _part(part: Part, where: str) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"text": text}
        case Image(data, kind):
            if kind not in IMAGE_TYPES:
                raise impossible(NAME, f"images but of {', '.join(IMAGE_TYPES)}", where)
        case Audio(data, kind):
            if kind not in SOUND_TYPES:
                raise impossible(NAME, f"sounds but of {', '.join(SOUND_TYPES)}", where)
    return {"inlineData": {"mimeType": kind, "data": base64.b64encode(data).decode()}}


def _tool(tool: Tool) -> dict[str, Any]:
    if not _TOOL_NAME.fullmatch(tool.name):
        raise impossible(NAME, "such a name of a tool: it begins with a letter or _", "tools")
    form: dict[str, Any] = {"name": tool.name, "description": tool.description}
    return form | ({"parametersJsonSchema": tool.parameters} if tool.parameters else {})


def _choice(request: ChatRequest) -> dict[str, Any]:
    match request.tool_choice.mode:
        case "auto":
            return {"mode": "VALIDATED" if any(tool.strict for tool in request.tools) else "AUTO"}
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case "named":
            return {"mode": "ANY", "allowedFunctionNames": [request.tool_choice.name]}


def _sampling(request: GenerateRequest, names: list[str]) -> dict[str, Any]:
    wished = request.sampling
    if len(wished.stop) > MAX_STOPS:
        raise impossible(NAME, f"more than {MAX_STOPS} stop texts", "stop")
    if wished.num_choices > MAX_CHOICES:
        raise impossible(NAME, f"more than {MAX_CHOICES} choices", "n")
    seed = wished.seed
    if seed is not None and not -MAX_SEED - 1 <= seed <= MAX_SEED:
        names.append("sampling.seed")
        seed = None
    config: dict[str, Any] = {
        "temperature": wished.temperature,
        "topP": wished.top_p,
        "topK": wished.top_k,
        "presencePenalty": wished.presence_penalty,
        "frequencyPenalty": wished.frequency_penalty,
        "seed": seed,
        "maxOutputTokens": wished.max_tokens,
        "stopSequences": list(wished.stop) or None,
        "candidateCount": wished.num_choices if wished.num_choices > 1 else None,
        "responseLogprobs": True if wished.logprobs is not None else None,
        "logprobs": wished.logprobs or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _output(request: GenerateRequest) -> dict[str, Any]:
    match request.output.kind:
        case "text":
            return {}
        case "json":
            return {"responseMimeType": "application/json"}
        case "schema":
            return {"responseMimeType": "application/json", "responseJsonSchema": request.output.schema or {}}
        case "grammar":
            raise impossible(NAME, "a grammar", "grammar")


def _thinking(think: bool | None, model: str, names: list[str]) -> dict[str, Any] | None:
    """Thoughts are shown or, where the model can do without, not had: those since 3 and 2.5 Pro only think less."""
    if think is None:
        return None
    if think:
        return {"includeThoughts": True}
    if _SINCE_3.search(model):
        names.append("think")
        return {"thinkingLevel": "MINIMAL" if "flash" in model else "LOW"}
    if "2.5-pro" in model:
        names.append("think")
        return {"thinkingBudget": 128}
    return {"thinkingBudget": 0}
