"""The seams: what an engine, a session and their peers must do, one or two methods each.

Each seam has a conformance suite in `tests/conformance` that runs over every registered implementation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from msgspec import Struct

from catena.core.manifest import StoredModel
from catena.core.messages import (
    Classified,
    ClassifyRequest,
    DetokeniseRequest,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Listened,
    Prediction,
    PredictRequest,
    Reranked,
    RerankRequest,
    Segment,
    TokeniseRequest,
    Tokens,
    TranscribeRequest,
)


class Context(Struct, frozen=True):
    """What settings say of one model's context: `tokens` (0: nothing), and how its rotary positions are scaled: by
    `rope_scaling` ("" as the model has it, none, linear, yarn), `rope_factor` times, theta `rope_base` (0: its own).
    """

    tokens: int = 0
    rope_scaling: str = ""
    rope_factor: float = 1.0
    rope_base: float = 0.0

    @property
    def has_rope(self) -> bool:
        """Whether anything about positions is set."""
        return bool(self.rope_scaling or self.rope_base or self.rope_factor != 1.0)


class Placement(Struct, frozen=True):
    """Where and how large a session is to be. `threads` never exceeds the cores owned; `context_tokens` 0: the model's.

    `folder` is a private (0700) folder for sockets and caches; `prompt_cache_bytes` bounds what is kept of prompts
    whose slot was given to another request, and `kv_type` names the numbers in which a context is kept. `draft` is
    a model that guesses ahead, with `drafts_from_prompt` the words so far do. A session that predicts may keep a
    request waiting for `batch_window_s` to compute it together with others, up to `batch_rows` rows at a time.

    `context` is what settings say of this model's context. `kept_folder` is a private folder of this model for what is
    to outlive the session ("": nothing is), beside those of other models; together they hold up to `kept_bytes`.
    """

    device: str = "cpu"
    threads: int = 1
    slots: int = 4
    context_tokens: int = 0
    folder: str = ""
    prompt_cache_bytes: int = 256 << 20
    kv_type: str = "f16"
    draft: StoredModel | None = None
    drafts_from_prompt: bool = False
    adapters: tuple[StoredModel, ...] = ()
    batch_window_s: float = 0.001
    batch_rows: int = 64
    context: Context = Context()
    kept_folder: str = ""
    kept_bytes: int = 0


class SessionFacts(Struct, frozen=True):
    """What a loaded session is: engine with version, device, requests at a time, context in tokens, memory in bytes."""

    engine: str
    device: str
    slots: int
    context_tokens: int
    memory_bytes: int


class Session(Protocol):
    """A model loaded on a device; it is also a Generator or an Embedder.

    One that can break for good may have an attribute `is_broken: bool`: once true it gets no more requests, and the
    next request for its model has it closed and loaded again.
    """

    facts: SessionFacts

    async def close(self) -> None:
        """Free everything. Called once, when no request is running."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A session that generates."""

    def generate(self, request: GenerateRequest, /) -> AsyncGenerator[Event]:
        """Events in the order of core.messages.events.

        Closing the generator, or cancelling the task that waits on it, stops the work within one token.
        Raises ContextError (both numbers) before any event, UnsupportedError for a wish it cannot honour,
        EngineError when the engine broke.
        """
        ...


@runtime_checkable
class Counter(Protocol):
    """A session that generates and can say beforehand how long a prompt is."""

    async def count(self, request: GenerateRequest, /) -> int:
        """The tokens of the prompt exactly as `generate` would read it, also when they exceed the context.

        Computes nothing of an answer. Raises what `generate` raises before its first event, but for ContextError.
        """
        ...


@runtime_checkable
class Tokeniser(Protocol):
    """A session that shows how its model splits text."""

    async def tokenise(self, request: TokeniseRequest, /) -> Tokens:
        """The tokens exactly as the model would read them; those of a conversation are what `count` counts.

        Raises UnsupportedError for a conversation where the model has no chat template, else as `count` does.
        """
        ...

    async def detokenise(self, request: DetokeniseRequest, /) -> str:
        """The text that these tokens stand for. Raises InputError for an id that is not in the vocabulary."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A session that embeds."""

    async def embed(self, request: EmbedRequest, /) -> Embedded:
        """One vector per input. Raises ContextError for an input longer than the model reads, UnsupportedError for
        dimensions it was not trained for."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """A session that puts texts in order."""

    async def rerank(self, request: RerankRequest, /) -> Reranked:
        """One score per document. Raises ContextError for a query and document that are too long and must not be cut,
        or for a query that leaves no room for a document."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """A session that labels texts."""

    async def classify(self, request: ClassifyRequest, /) -> Classified:
        """Labels for each text, or for stretches of it. Raises ContextError for a text longer than the model reads."""
        ...


@runtime_checkable
class Transcriber(Protocol):
    """A session that writes down speech."""

    def transcribe(self, request: TranscribeRequest, /) -> AsyncGenerator[Event | Segment | Listened]:
        """Events in the order of core.messages.transcribe.

        Closing the generator, or cancelling the task that waits on it, stops the work within one token. Raises
        InputError for bytes that are no audio, TooLargeError for more than the request's `max_s`, UnsupportedError for
        a language that the model does not write, EngineError when the engine broke.
        """
        ...


@runtime_checkable
class Predictor(Protocol):
    """A session that predicts."""

    async def predict(self, request: PredictRequest, /) -> Prediction:
        """The arrays asked for, each with the unit that the model's signature states.

        The arrays given fit the signature in name, data type and shape: whoever calls has seen to it. Cancelling stops
        the work where nobody else shares it. Raises InputError for values that the model cannot take, EngineError when
        the engine broke.
        """
        ...


class Engine(Protocol):
    """A way to run models of some formats. Making it reads no weights and touches no device.

    It is made without arguments; one that has a table `[run.NAME]` of settings may be given that.
    """

    def accepts(self, model: StoredModel, /) -> str | None:
        """None if this engine can load `model`, else the reason why not, in one sentence."""
        ...

    async def load(self, model: StoredModel, placement: Placement, /) -> Session:
        """Load `model`. Raises EngineError, FormatError or ResourceError; a failed load leaves nothing behind."""
        ...


class Headroom(Protocol):
    """How much more a device may take on now."""

    def free_bytes(self, device: str, /) -> int:
        """Memory that a new session may use on `device`, in bytes."""
        ...
