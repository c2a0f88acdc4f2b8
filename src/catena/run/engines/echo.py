"""Echo: a deterministic engine for tests and benchmarks that answers with the last user message at a settable rate.

A token is a word with the white space before it. Sampling cannot change the answer, so every sampling wish is met.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator
from typing import ClassVar

import anyio
import anyio.lowlevel
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import ContextError, EngineError, InputError, NotFoundError, ResourceError, UnsupportedError
from catena.core.ids import new_id
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    Delta,
    DetokeniseRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Text,
    Timings,
    TokeniseRequest,
    TokenLogprob,
    Tokens,
    Tool,
    ToolCallDelta,
    TopLogprob,
    Usage,
    canonical_bytes,
    message_text,
)
from catena.core.protocols import Placement, SessionFacts
from catena.run import contexts

CONTEXT_TOKENS = 8192
SLOTS = 1024
MAX_LOGPROBS = 20
MAX_WORDS = 1 << 20  # that a session knows the ids of
_TOKEN = re.compile(r"\s*\S+|\s+")

_MANIFEST = Manifest(
    "echo",
    "generate",
    "echo",
    (),
    "Apache-2.0",
    Provenance("catena:echo"),
    facts={"architecture": "echo", "context_tokens": CONTEXT_TOKENS},
)
MODEL = StoredModel(_MANIFEST, f"sha256:{hashlib.sha256(canonical_bytes(_MANIFEST)).hexdigest()}", {})


class Engine:
    """Loads `MODEL` only. `tokens_per_s` is read when a session is loaded; 0 means as fast as they are taken."""

    tokens_per_s: ClassVar[float] = 0.0

    def accepts(self, model: StoredModel) -> str | None:
        """None for the format `echo`, else why not."""
        return None if model.manifest.format == "echo" else f"echo runs its own model only, not {model.name}"

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """A session at once; it takes no memory to speak of and any number of requests. ResourceError off the CPU."""
        if placement.device != "cpu":
            raise ResourceError(f"echo has no device {placement.device!r} here", hint="use device cpu")
        context_tokens = contexts.fitted(model.name, CONTEXT_TOKENS, placement)
        return Session(SessionFacts("echo 1", placement.device, SLOTS, context_tokens, 0), self.tokens_per_s)


class _Plan(Struct, frozen=True):
    """What a request will be answered with: the same pieces for each choice, or one call of a tool."""

    num_prompt: int
    pieces: tuple[str, ...]
    reason: FinishReason
    tool: Tool | None = None
    stop: str | None = None


class Session:
    """Answers each request with its own words."""

    def __init__(self, facts: SessionFacts, tokens_per_s: float) -> None:
        self.facts = facts
        self._interval_s = 1 / tokens_per_s if tokens_per_s else 0.0
        self._is_closed = False
        self._ids: dict[str, int] = {}

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event]:
        """The last user message (or the prompt), token by token, the choices in turn.

        Raises ContextError, and UnsupportedError for an output format, a logit bias, or endless output.
        """
        if self._is_closed:
            raise EngineError("the session is closed")
        plan = self._plan(request)
        started_s = monotonic_s()
        choices = range(request.sampling.num_choices)
        if plan.tool is not None:
            for choice in choices:
                yield ToolCallDelta(choice, 0, id=new_id("call"), name=plan.tool.name)
                yield ToolCallDelta(choice, 0, "{}")
        for count, piece in enumerate(plan.pieces):
            if self._interval_s:
                await anyio.sleep(max(0.0, started_s + count * self._interval_s - monotonic_s()))
            else:
                await anyio.lowlevel.checkpoint()
            for choice in choices:
                yield Delta(choice, piece, logprobs=_logprobs(piece, request.sampling.logprobs))
        for choice in choices:
            yield Finished(choice, plan.reason, plan.stop)
        yield Usage(plan.num_prompt, len(plan.pieces) * len(choices), source="counted")
        yield Timings(decode_s=monotonic_s() - started_s)

    async def count(self, request: GenerateRequest) -> int:
        """Words of the prompt. Raises what `generate` raises but for ContextError."""
        if self._is_closed:
            raise EngineError("the session is closed")
        _refuse_unsupported(request)
        return len(_TOKEN.findall(_words(request)[0]))

    async def tokenise(self, request: TokeniseRequest) -> Tokens:
        """The words of the prompt; ids are given in the order in which words were first seen."""
        if self._is_closed:
            raise EngineError("the session is closed")
        text = request.text
        if isinstance(text, ChatRequest):
            _refuse_unsupported(text)
            text = _words(text)[0]
        pieces = _TOKEN.findall(text)
        if len(self._ids) > MAX_WORDS:
            self._ids.clear()
        ids = tuple(self._ids.setdefault(piece, len(self._ids)) for piece in pieces)
        return Tokens(ids, tuple(piece.encode() for piece in pieces))

    async def detokenise(self, request: DetokeniseRequest) -> str:
        """The words that were seen before. Raises InputError for another id."""
        words = list(self._ids)
        if not all(0 <= token < len(words) for token in request.ids):
            raise InputError("a token id is not in the vocabulary", param="tokens")
        return "".join(words[token] for token in request.ids)

    async def close(self) -> None:
        """Nothing is held; later requests are refused."""
        self._is_closed = True

    def _plan(self, request: GenerateRequest) -> _Plan:
        _refuse_unsupported(request)
        prompt, answer = _words(request)
        num_prompt, limit = len(_TOKEN.findall(prompt)), request.sampling.max_tokens
        needed = num_prompt + (1 if limit is None or request.sampling.fills_context else limit)
        if needed > self.facts.context_tokens:
            raise ContextError(needed, self.facts.context_tokens)
        tool = _called(request)
        if tool is not None:
            return _Plan(num_prompt, (), "tool_calls", tool)
        end, stop = min(
            ((answer.find(stop), stop) for stop in request.sampling.stop if stop in answer), default=(None, None)
        )
        pieces = tuple(_TOKEN.findall(answer[:end]))
        room = self.facts.context_tokens - num_prompt
        room = room if limit is None else min(room, limit)
        if len(pieces) > room:
            return _Plan(num_prompt, pieces[:room], "length")
        return _Plan(num_prompt, pieces, "stop", stop=stop)


def _words(request: GenerateRequest) -> tuple[str, str]:
    """All text of the prompt, and the answer to it."""
    if isinstance(request, CompletionRequest):
        prompt = request.prompt if isinstance(request.prompt, str) else " ".join(map(str, request.prompt))
        return prompt, prompt + prompt if request.echo else prompt
    texts = [message_text(message) for message in request.messages]
    asked = [text for text, message in zip(texts, request.messages, strict=True) if message.role == "user"]
    return " ".join(texts), asked[-1] if asked else ""


def _called(request: GenerateRequest) -> Tool | None:
    """The tool that must be called: the named one, or the first when any call is required."""
    if not isinstance(request, ChatRequest) or request.tool_choice.mode not in ("required", "named"):
        return None
    is_named = request.tool_choice.mode == "named"
    for tool in request.tools:
        if not is_named or tool.name == request.tool_choice.name:
            return tool
    raise InputError("tool_choice asks for a tool that is not among the tools", param="tool_choice")


def _refuse_unsupported(request: GenerateRequest) -> None:
    sampling = request.sampling
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    if not 1 <= sampling.num_choices <= SLOTS:
        raise InputError(f"n must be 1 to {SLOTS}", param="n")
    if "" in sampling.stop:
        raise InputError("a stop string is empty", param="stop")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        raise InputError(f"logprobs must be 0 to {MAX_LOGPROBS}", param="logprobs")
    wishes = {
        "response_format": request.output.kind != "text",
        "logit_bias": bool(sampling.logit_bias),
        "ignore_eos": sampling.ignore_eos,
        "suffix": isinstance(request, CompletionRequest) and bool(request.suffix),
        "think": isinstance(request, ChatRequest) and bool(request.think),
        "messages": isinstance(request, ChatRequest) and not all(map(_is_text, request.messages)),
    }
    for name, is_asked in wishes.items():
        if is_asked:
            raise UnsupportedError(f"echo cannot honour {name}", hint="leave it out", param=name)
    if request.adapters:
        raise NotFoundError("echo has no adapters", param="adapters")


def _is_text(message: Message) -> bool:
    return all(isinstance(part, Text) for part in message.parts)


def _logprobs(piece: str, num_top: int | None) -> tuple[TokenLogprob, ...]:
    """The answer is certain, so each token has probability 1."""
    if num_top is None:
        return ()
    alternatives = (TopLogprob(piece, piece.encode(), 0.0),) if num_top else ()
    return (TokenLogprob(piece, piece.encode(), 0.0, alternatives),)
