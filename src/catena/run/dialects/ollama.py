"""Ollama's own API: chat, generate and embed, in lines of JSON.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catena.core.errors import CatenaError, NetworkError
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    Image,
    Message,
    OutputFormat,
    Prediction,
    PredictRequest,
    Sampling,
    ToolCallDelta,
    Usage,
    message_text,
)
from catena.run.dialects.dialect import Outgoing, cut, impossible, lost, refusal, vectors
from catena.run.dialects.shapes import JSON, decoded

NAME = "ollama"
# Our words and, under `options`, Ollama's.
OPTIONS = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
}
CARRIED = (*OPTIONS, "think")


class FunctionWire(Struct, frozen=True):
    name: str
    arguments: dict[str, Any] = {}


class CallWire(Struct, frozen=True):
    function: FunctionWire
    id: str | None = None


class MessageWire(Struct, frozen=True):
    content: str = ""
    thinking: str | None = None
    tool_calls: list[CallWire] | None = None


class Line(Struct, frozen=True):
    """One line of a stream; of `chat` it has a message, of `generate` a response."""

    message: MessageWire | None = None
    response: str = ""
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | None = None


class VectorsWire(Struct, frozen=True):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


class NameWire(Struct, frozen=True):
    name: str


class TagsWire(Struct, frozen=True):
    models: list[NameWire]


class Ollama:
    """The dialect; the base URL is the one of `OLLAMA_HOST`, without `/api`."""

    name: str = NAME
    framing: Literal["sse", "ndjson"] = "ndjson"

    def headers(self, key: str | None, /) -> dict[str, str]:
        return {} if key is None else {"authorization": f"Bearer {key}"}

    def generate(self, request: GenerateRequest, model: str, /) -> Outgoing:
        body: dict[str, Any] = {"model": model, "stream": True}
        if options := _options(request.sampling):
            body["options"] = options
        if request.adapters:
            raise impossible(NAME, "adapters", "adapters")
        if (form := _format(request.output)) is not None:
            body["format"] = form
        if isinstance(request, CompletionRequest):
            path = "/api/generate"
            body |= _completion(request)
        else:
            path = "/api/chat"
            body |= _chat(request)
        return Outgoing(path, msgspec.json.encode(body), JSON, lost=(*lost(request, CARRIED), *_nameless(request)))

    def incoming(self, request: GenerateRequest, /) -> Stream:
        return Stream()

    def embed(self, request: EmbedRequest, model: str, /) -> Outgoing:
        if any(not isinstance(one, str) for one in request.inputs):
            raise impossible(NAME, "token ids", "input")
        # With `truncate`, a text that is too long would be cut without a word.
        body: dict[str, Any] = {"model": model, "input": request.inputs, "truncate": False}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return Outgoing("/api/embed", msgspec.json.encode(body), JSON)

    def embedded(self, body: bytes, request: EmbedRequest, /) -> Embedded:
        wire = decoded(NAME, body, VectorsWire)
        packed, width = vectors(NAME, wire.embeddings, len(request.inputs))
        is_told = wire.prompt_eval_count is not None
        return Embedded(
            packed, width, Usage(wire.prompt_eval_count or 0, 0, source="reported" if is_told else "estimated")
        )

    def predict(self, request: PredictRequest, model: str, /) -> Outgoing:
        raise impossible(NAME, "arrays", "model")

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest, /) -> Prediction:
        raise impossible(NAME, "arrays", "model")

    def models(self) -> Outgoing:
        return Outgoing("/api/tags", method="GET")

    def listed(self, body: bytes, /) -> tuple[str, ...]:
        return tuple(row.name for row in decoded(NAME, body, TagsWire).models)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, /) -> CatenaError:
        return refusal(status, headers)  # its body is one sentence, which may quote the question


dialect = Ollama()


class Stream:
    """One streamed answer: complete with the line that says `done`."""

    def __init__(self) -> None:
        self._num_calls = 0
        self._is_done = False

    def read(self, event: str, data: bytes, /) -> Iterator[Event]:
        line = decoded(NAME, data, Line)
        if line.error is not None:
            raise NetworkError("the provider failed in the middle of the answer", hint="ask again")
        message = line.message or MessageWire(line.response, line.thinking)
        if message.content or message.thinking:
            yield Delta(0, message.content, message.thinking or "")
        for call in message.tool_calls or ():
            index, self._num_calls = self._num_calls, self._num_calls + 1
            arguments = msgspec.json.encode(call.function.arguments).decode()
            yield ToolCallDelta(0, index, arguments, call.id or f"call_{index}", call.function.name)
        if line.done and not self._is_done:
            yield from self._finish(line)

    def end(self) -> Iterator[Event]:
        if not self._is_done:
            raise cut()
        return iter(())

    def _finish(self, line: Line) -> Iterator[Event]:
        if line.done_reason not in (None, "stop", "length"):  # `load` and `unload`: nothing was asked
            raise NetworkError("the provider stopped before the answer's end", hint="ask again")
        self._is_done = True
        is_long = line.done_reason == "length"
        yield Finished(0, "length" if is_long else "tool_calls" if self._num_calls else "stop")
        if line.eval_count is not None:
            yield Usage(line.prompt_eval_count or 0, line.eval_count)


def _options(sampling: Sampling) -> dict[str, Any]:
    if sampling.num_choices > 1:
        raise impossible(NAME, "more than one choice", "n")
    if sampling.logprobs is not None:
        raise impossible(NAME, "logprobs", "logprobs")
    options = {word: getattr(sampling, name) for name, word in OPTIONS.items() if getattr(sampling, name) is not None}
    if sampling.stop:
        options["stop"] = sampling.stop
    return options


def _format(output: OutputFormat) -> Any:
    match output.kind:
        case "text":
            return None
        case "json":
            return "json"
        case "schema":
            return output.schema
        case "grammar":
            raise impossible(NAME, "a grammar", "response_format")


def _nameless(request: GenerateRequest) -> tuple[str, ...]:
    """The names of speakers, which have no place; those of tools do."""
    turns = request.messages if isinstance(request, ChatRequest) else ()
    return ("messages.name",) if any(turn.name and turn.role != "tool" for turn in turns) else ()


def _completion(request: CompletionRequest) -> dict[str, Any]:
    if not isinstance(request.prompt, str):
        raise impossible(NAME, "token ids", "prompt")
    if request.echo:
        raise impossible(NAME, "an echo of the prompt", "echo")
    if request.suffix:
        return {"prompt": request.prompt, "suffix": request.suffix}
    return {"prompt": request.prompt, "raw": True}


def _chat(request: ChatRequest) -> dict[str, Any]:
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    body: dict[str, Any] = {"messages": [_message(message, names) for message in request.messages]}
    if request.tools and request.tool_choice.mode != "none":
        if request.tool_choice.mode != "auto":
            raise impossible(NAME, "a tool choice beyond auto and none", "tool_choice")
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    if request.think is not None:
        body["think"] = request.think
    return body


def _message(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message_text(message)}
    if any(isinstance(part, Audio) for part in message.parts):
        raise impossible(NAME, "audio", "messages")
    if images := [base64.b64encode(part.data).decode() for part in message.parts if isinstance(part, Image)]:
        wire["images"] = images
    if message.reasoning:
        wire["thinking"] = message.reasoning
    if message.tool_calls:
        wire["tool_calls"] = [
            {"function": {"name": call.name, "arguments": _arguments(call.arguments)}} for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_name"] = names.get(message.tool_call_id) or message.name or message.tool_call_id
    return wire


def _arguments(text: str) -> dict[str, Any]:
    """Arguments as the object that Ollama takes. Raises UnsupportedError for text that is none."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise impossible(NAME, "arguments that are not a JSON object", "messages") from None
