"""Requests as OpenAI's reference has them, or as one of the services that follow it wants them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    GenerateRequest,
    Image,
    Message,
    OutputFormat,
    Sampling,
    Text,
    ToolChoice,
    message_text,
)
from catena.run.dialects.dialect import Outgoing, impossible, lost
from catena.run.dialects.openai.quirks import FURTHER, MISSING, NAME, STANDARD, THINKING
from catena.run.dialects.shapes import JSON


class Writer:
    """Writes requests as the reference has them, but for the quirks of one service."""

    def __init__(self, quirks: frozenset[str]) -> None:
        self.quirks = quirks

    def generate(self, request: GenerateRequest, model: str, /) -> Outgoing:
        if request.adapters:
            raise impossible(NAME, "adapters", "adapters")
        body: dict[str, Any] = {"model": model, "stream": True}
        if "no_stream_options" not in self.quirks:
            body["stream_options"] = {"include_usage": True}
        carried = self._sampling(request.sampling, body)
        self._output(request.output, body)
        if isinstance(request, CompletionRequest):
            self._completion(request, body)
            path, dropped = "/completions", ()
        else:
            path, dropped = "/chat/completions", self._chat(request, body, carried)
        return Outgoing(path, msgspec.json.encode(body), JSON, lost=(*lost(request, carried), *dropped))

    def _sampling(self, sampling: Sampling, body: dict[str, Any]) -> set[str]:
        """Write the wishes into `body`; give the names of those that this service can carry."""
        named = self._names()
        for name, word in named.items():
            value = getattr(sampling, name)
            if value is not None and value is not False and value != {}:
                body[word] = {str(key): bias for key, bias in value.items()} if name == "logit_bias" else value
        if sampling.max_tokens is not None:
            word = "max_completion_tokens" if "max_completion_tokens" in self.quirks else "max_tokens"
            body[word] = sampling.max_tokens
        if sampling.stop:
            body["stop"] = sampling.stop
        if sampling.num_choices > 1:
            body["n"] = sampling.num_choices
        if sampling.logprobs is not None and "no_logprobs" in self.quirks:
            raise impossible("service's", "logprobs", "logprobs")
        return set(named)

    def _names(self) -> dict[str, str]:
        """The wishes that this service can carry, and its word for each."""
        named = {name: name for name in STANDARD}
        for quirk, names in MISSING.items():
            if quirk in self.quirks:
                named = {name: word for name, word in named.items() if name not in names}
        return named | {name: word for word, name in FURTHER.items() if word in self.quirks}

    def _output(self, output: OutputFormat, body: dict[str, Any]) -> None:
        match output.kind:
            case "text":
                return
            case "grammar":
                if "grammar" not in self.quirks:
                    raise impossible(NAME, "a grammar", "response_format")
                body["grammar"] = output.grammar
            case "json":
                body["response_format"] = {"type": "json_object"}
            case "schema":
                if "no_json_schema" in self.quirks:
                    raise impossible("service's", "a JSON schema", "response_format")
                schema = {"name": "answer", "schema": output.schema, "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}

    def _completion(self, request: CompletionRequest, body: dict[str, Any]) -> None:
        body.pop("max_completion_tokens", None)
        if request.sampling.max_tokens is not None:
            body["max_tokens"] = request.sampling.max_tokens
        body["prompt"] = request.prompt
        if request.echo:
            body["echo"] = True
        if request.suffix:
            body["suffix"] = request.suffix
        if request.sampling.logprobs is not None:
            body["logprobs"] = request.sampling.logprobs

    def _chat(self, request: ChatRequest, body: dict[str, Any], carried: set[str]) -> tuple[str, ...]:
        with_reasoning = "reasoning_content" in self.quirks
        messages, has_name = request.messages, any(message.name for message in request.messages)
        if has_name and "no_message_name" in self.quirks:
            messages = tuple(msgspec.structs.replace(message, name=None) for message in messages)
        body["messages"] = [_message(message, with_reasoning) for message in messages]
        if request.sampling.logprobs is not None:
            body["logprobs"] = True
            if request.sampling.logprobs:
                body["top_logprobs"] = request.sampling.logprobs
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
                    | ({"strict": True} if tool.strict else {}),
                }
                for tool in request.tools
            ]
            self._choice(request.tool_choice, body)
            carried.add("parallel_tool_calls")
            if not request.parallel_tool_calls and "tools" in body:
                body["parallel_tool_calls"] = False
        if request.think is not None and self._think(request.think, body):
            carried.add("think")
        has_reasoning = any(message.reasoning for message in request.messages)
        dropped = ("messages.name",) if messages is not request.messages else ()
        return ("messages.reasoning", *dropped) if has_reasoning and not with_reasoning else dropped

    def _choice(self, choice: ToolChoice, body: dict[str, Any]) -> None:
        if "auto_tool_choice" in self.quirks:
            if choice.mode in ("required", "named"):
                raise impossible("service's", "a tool choice beyond auto and none", "tool_choice")
            if choice.mode == "none":
                del body["tools"]
            return
        named = {"type": "function", "function": {"name": choice.name}}
        body["tool_choice"] = named if choice.mode == "named" else choice.mode

    def _think(self, think: bool, body: dict[str, Any]) -> bool:
        """Ask for reasoning or forbid it in the words of this service; whether it has any."""
        words: dict[str, dict[str, Any]] = {
            "enable_thinking": {"enable_thinking": think},
            "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": think}},
            "thinking_type": {"thinking": {"type": "enabled" if think else "disabled"}},
            "reasoning_enabled": {"reasoning": {"enabled": think}},
            "reasoning_effort": {"reasoning_effort": "medium" if think else "none"},
        }
        said = [words[word] for word in THINKING if word in self.quirks]
        for one in said:
            body.update(one)
        return bool(said)


def _message(message: Message, with_reasoning: bool) -> dict[str, Any]:
    is_plain = all(isinstance(part, Text) for part in message.parts)
    if not is_plain and message.role != "user":
        raise impossible(NAME, f"images or audio in a message of role {message.role}", "messages")
    wire: dict[str, Any] = {"role": message.role}
    wire["content"] = message_text(message) if is_plain else [_part(part) for part in message.parts]
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        wire["content"] = wire["content"] or None
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.name and message.role != "tool":
        wire["name"] = message.name
    if message.reasoning and with_reasoning:
        wire["reasoning_content"] = message.reasoning
    return wire


def _part(part: Text | Image | Audio) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(data, media_type):
            address = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
            return {"type": "image_url", "image_url": {"url": address}}
        case Audio(data, media_type):
            form = media_type.rpartition("/")[2].removeprefix("x-")
            sound = {"data": base64.b64encode(data).decode(), "format": {"mpeg": "mp3", "wave": "wav"}.get(form, form)}
            return {"type": "input_audio", "input_audio": sound}
