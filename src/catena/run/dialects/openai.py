"""OpenAI's chat completions, completions and embeddings, as OpenAI and the many servers that follow it speak them.

Sources: https://platform.openai.com/docs/api-reference; for each quirk, the services of reach/cloud/services.toml.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catena.core.errors import CatenaError, ContextError, NetworkError, ProviderError
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Image,
    Message,
    OutputFormat,
    Prediction,
    PredictRequest,
    Sampling,
    Text,
    TokenLogprob,
    ToolCallDelta,
    ToolChoice,
    TopLogprob,
    Usage,
    message_text,
)
from catena.run.dialects.dialect import Outgoing, cut, impossible, lost, malformed, refusal, vectors
from catena.run.dialects.shapes import JSON, decoded, tolerated

NAME = "openai"
# Sampling as the API names it; what else a server takes are its quirks.
STANDARD = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logit_bias")
FURTHER = {
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "repeat_penalty": "repeat_penalty",
    "ignore_eos": "ignore_eos",
    "random_seed": "seed",
}
MISSING = {
    "no_seed": ("seed",),
    "no_logit_bias": ("logit_bias",),
    "no_penalties": ("presence_penalty", "frequency_penalty"),
}
THINKING = ("enable_thinking", "chat_template_kwargs", "thinking_type", "reasoning_effort", "reasoning_enabled")
OTHER = (
    *("api_key_header", "max_completion_tokens", "no_stream_options", "no_json_schema", "no_logprobs"),
    *("grammar", "reasoning_content", "auto_tool_choice", "no_message_name"),
)
QUIRKS = frozenset((*FURTHER, *MISSING, *THINKING, *OTHER))

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "recover_stop": "stop",
    "length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
}
_LIMIT = re.compile(r"maximum context length (?:is|of) (\d{1,9}) tokens")
_NEED = re.compile(r"(?:resulted in|requested)\D{0,40}?(\d{1,9})(?: input)? tokens")


class CallFunction(Struct, frozen=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class Call(Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: CallFunction | None = None


class Fragment(Struct, frozen=True):
    """`delta` of a streamed choice. Of the two words for reasoning each server uses one."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class TopWire(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenWire(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopWire] | None = None


class Logprobs(Struct, frozen=True):
    """Of a chat: `content`. Of a completion: three lists side by side."""

    content: list[TokenWire] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class CachedWire(Struct, frozen=True):
    cached_tokens: int | None = None


class ReasonedWire(Struct, frozen=True):
    reasoning_tokens: int | None = None


class UsageWire(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: CachedWire | None = None
    completion_tokens_details: ReasonedWire | None = None
    prompt_cache_hit_tokens: int | None = None


class ChoiceWire(Struct, frozen=True):
    index: int = 0
    delta: Fragment | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: UsageWire | None = None


class Wrapped(Struct, frozen=True):
    usage: UsageWire | None = None


class Chunk(Struct, frozen=True):
    choices: list[ChoiceWire] | None = None
    usage: UsageWire | None = None
    x_groq: Wrapped | None = None
    error: Any = None


class VectorWire(Struct, frozen=True):
    embedding: list[float]
    index: int = 0


class VectorsWire(Struct, frozen=True):
    data: list[VectorWire]
    usage: UsageWire | None = None


class ModelWire(Struct, frozen=True):
    id: str


class ModelsWire(Struct, frozen=True):
    data: list[ModelWire]


class OpenAI:
    """The dialect as the API reference has it, but for the `quirks` of one service."""

    name: str = NAME
    framing: Literal["sse", "ndjson"] = "sse"
    known_quirks = QUIRKS

    def __init__(self, quirks: Collection[str] = ()) -> None:
        self.quirks = frozenset(quirks)

    def adapted(self, quirks: Collection[str], /) -> OpenAI:
        """The same dialect with these quirks."""
        return OpenAI(quirks)

    def headers(self, key: str | None, /) -> dict[str, str]:
        if key is None:
            return {}
        return {"api-key": key} if "api_key_header" in self.quirks else {"authorization": f"Bearer {key}"}

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

    def incoming(self, request: GenerateRequest, /) -> Stream:
        return Stream(request.sampling.num_choices)

    def embed(self, request: EmbedRequest, model: str, /) -> Outgoing:
        body: dict[str, Any] = {"model": model, "input": request.inputs, "encoding_format": "float"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return Outgoing("/embeddings", msgspec.json.encode(body), JSON)

    def embedded(self, body: bytes, request: EmbedRequest, /) -> Embedded:
        wire = decoded(NAME, body, VectorsWire)
        rows = sorted(wire.data, key=lambda row: row.index)
        packed, width = vectors(NAME, [row.embedding for row in rows], len(request.inputs))
        usage = _usage(wire.usage) if wire.usage else Usage(0, 0, source="estimated")
        return Embedded(packed, width, usage)

    def predict(self, request: PredictRequest, model: str, /) -> Outgoing:
        raise impossible(NAME, "arrays", "model")

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest, /) -> Prediction:
        raise impossible(NAME, "arrays", "model")

    def models(self) -> Outgoing:
        return Outgoing("/models", method="GET")

    def listed(self, body: bytes, /) -> tuple[str, ...]:
        return tuple(row.id for row in decoded(NAME, body, ModelsWire).data)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, /) -> CatenaError:
        detail = _detail(body)
        if overflow := _overflow(detail):
            return overflow
        word, param = _word(detail), detail.get("param")
        if word == "insufficient_quota":  # sent with 429, but no waiting helps
            return refusal(402, headers, word)
        return refusal(status, headers, word, param if isinstance(param, str) and len(param) <= 100 else None)

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


dialect = OpenAI()


class Stream:
    """One streamed answer: complete when every choice has finished."""

    def __init__(self, num_choices: int) -> None:
        self._num_choices = num_choices
        self._finished: set[int] = set()
        self._opened: set[tuple[int, int]] = set()
        self._usage: UsageWire | None = None
        self._is_done = False

    def read(self, event: str, data: bytes, /) -> Iterator[Event]:
        if data.strip() == b"[DONE]":
            self._is_done = True
        if self._is_done or not data.strip():
            return
        chunk = decoded(NAME, data, Chunk)
        if chunk.error is not None or event == "error":
            raise _inside(chunk.error)
        self._usage = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or self._usage
        for choice in chunk.choices or ():
            self._usage = choice.usage or self._usage
            yield from self._choice(choice)

    def end(self) -> Iterator[Event]:
        if len(self._finished) < self._num_choices:
            raise cut()
        if self._usage is not None:
            yield _usage(self._usage)

    def _choice(self, choice: ChoiceWire) -> Iterator[Event]:
        fragment = choice.delta or Fragment()
        text, reasoning = _texts(fragment)
        text = text or choice.text or fragment.refusal or ""
        logprobs = tuple(_logprobs(choice.logprobs)) if choice.logprobs else ()
        if text or reasoning or logprobs:
            yield Delta(choice.index, text, reasoning, logprobs)
        for position, call in enumerate(fragment.tool_calls or ()):
            yield self._call(choice.index, position, call)
        if choice.finish_reason and choice.index not in self._finished:
            reason = _REASONS.get(choice.finish_reason)
            if reason is None:
                raise NetworkError("the provider stopped before the answer's end", hint="ask again")
            has_calls = any(index == choice.index for index, _ in self._opened)
            self._finished.add(choice.index)
            yield Finished(choice.index, "tool_calls" if has_calls and reason == "stop" else reason)

    def _call(self, choice: int, position: int, call: Call) -> ToolCallDelta:
        index = position if call.index is None else call.index
        function = call.function or CallFunction()
        given = function.arguments
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
        if (choice, index) in self._opened:
            return ToolCallDelta(choice, index, arguments)
        if not function.name:
            raise malformed(NAME, "a call without a name")
        self._opened.add((choice, index))
        return ToolCallDelta(choice, index, arguments, call.id or f"call_{choice}_{index}", function.name)


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


def _texts(fragment: Fragment) -> tuple[str, str]:
    """The text and the reasoning of a fragment; in lists of parts, those of type `thinking` are reasoning."""
    reasoning = fragment.reasoning_content or fragment.reasoning or ""
    if not isinstance(fragment.content, list):
        return fragment.content or "", reasoning
    text: list[str] = []
    for part in fragment.content:
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            pieces = inner if isinstance(inner, list) else [{"text": inner}]
            reasoning += "".join(str(piece.get("text") or "") for piece in pieces if isinstance(piece, dict))
        else:
            text.append(str(part.get("text") or ""))
    return "".join(text), reasoning


def _logprobs(wire: Logprobs) -> Iterable[TokenLogprob]:
    for one in wire.content or ():
        top = tuple(TopLogprob(each.token, _bytes(each), each.logprob) for each in one.top_logprobs or ())
        yield TokenLogprob(one.token, _bytes(one), one.logprob, top)
    rows = wire.top_logprobs or [None] * len(wire.tokens or ())
    for token, logprob, row in zip(wire.tokens or (), wire.token_logprobs or (), rows, strict=False):
        ranked = sorted((row or {}).items(), key=lambda pair: -pair[1])
        top = tuple(TopLogprob(text, text.encode(), value) for text, value in ranked)
        yield TokenLogprob(token, token.encode(), 0.0 if logprob is None else logprob, top)


def _bytes(wire: TokenWire | TopWire) -> bytes:
    try:
        return wire.token.encode() if wire.bytes is None else bytes(wire.bytes)
    except ValueError:
        raise malformed(NAME, "a byte beyond 255") from None


def _usage(wire: UsageWire) -> Usage:
    cached = wire.prompt_tokens_details.cached_tokens if wire.prompt_tokens_details else None
    reasoned = wire.completion_tokens_details.reasoning_tokens if wire.completion_tokens_details else None
    cached = wire.prompt_cache_hit_tokens if cached is None else cached
    return Usage(wire.prompt_tokens, wire.completion_tokens or 0, cached or 0, reasoned or 0)


def _detail(body: bytes) -> dict[str, Any]:
    """The object that describes an error: under `error`, or at the top as some servers have it."""
    found = tolerated(body, dict[str, Any])
    if found is None:
        return {}
    return found["error"] if isinstance(found.get("error"), dict) else found


def _word(detail: Mapping[str, Any]) -> str:
    code, kind = detail.get("code"), detail.get("type")
    return code if isinstance(code, str) and code else kind if isinstance(kind, str) else ""


def _overflow(detail: Mapping[str, Any]) -> ContextError | None:
    """The error for a prompt that is too long, where both numbers are told: in fields (llama.cpp), or in a sentence."""
    available, needed = detail.get("n_ctx"), detail.get("n_prompt_tokens")
    if isinstance(available, int) and isinstance(needed, int):
        return ContextError(needed, available)
    text = str(detail.get("message") or "")
    limit, need = _LIMIT.search(text), _NEED.search(text)
    return ContextError(int(need[1]), int(limit[1])) if limit and need else None


def _inside(error: Any) -> CatenaError:
    """The error for one that stands in a stream, where it has no status of its own but maybe a code that is one."""
    detail: dict[str, Any] = error if isinstance(error, dict) else {}
    code = detail.get("code")
    word = _word(detail)
    if isinstance(code, int) and 400 <= code < 600:
        return refusal(code, {}, word)
    if word in ("insufficient_quota", "invalid_api_key"):
        return ProviderError("the provider ended the answer for want of rights or funds", hint="see its account")
    if word.startswith("rate_limit"):
        return refusal(429, {}, word)
    return NetworkError("the provider failed in the middle of the answer", hint="ask again")
