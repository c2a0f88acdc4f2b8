"""Text embeddings by encoder models with a Hugging Face tokenizer file, behind any library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread

from catena.core.clock import monotonic_s
from catena.core.errors import (
    ContextError,
    EngineError,
    InputError,
    MissingExtraError,
    UnsupportedError,
)
from catena.core.manifest import StoredModel
from catena.core.messages import (
    DetokeniseRequest,
    Embedded,
    EmbedRequest,
    Timings,
    TokeniseRequest,
    Tokens,
    Usage,
)
from catena.core.protocols import Placement, SessionFacts
from catena.run import contexts
from catena.run.encoding import texts

try:
    import numpy
    import tokenizers
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "numpy", "onnx") from error

OUTPUT = "last_hidden_state"
# From padded ids, mask and types (each rows x tokens) to the last hidden states (rows x tokens x width); EngineError.
Encode = Callable[[Mapping[str, Any]], Any]
_POOLINGS = frozenset({"cls", "mean"})


def refusal(model: StoredModel) -> str | None:
    """Why the model cannot embed here; None if it can."""
    if not {"weights", "tokenizer"} <= {file.role for file in model.manifest.files}:
        return f"{model.name} has no file of role weights or tokenizer"
    if model.fact("pooling", "cls") not in _POOLINGS:
        return f"{model.name} pools by {model.fact('pooling')!r}; known are cls and mean"
    return None


class Session:
    """An encoder, one batch at a time on all of its threads; requests take turns between batches."""

    def __init__(
        self,
        encode: Encode,
        tokenizer: tokenizers.Tokenizer,
        model: StoredModel,
        facts: SessionFacts,
        batch_rows: int = texts.BATCH_ROWS,
    ) -> None:
        self.facts = facts
        self._encode: Encode | None = encode
        self._tokenizer = tokenizer
        self._pooling = str(model.fact("pooling", "cls"))
        self._shorter = _sizes(model.fact("matryoshka", ""))
        self._batch_rows = batch_rows
        edges = tokenizer.encode("").ids
        self._before, self._after = edges[:1], edges[1:]
        self._turn = anyio.CapacityLimiter(1)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """One L2-normalised vector per input, in order.

        Tokens are counted with the special ones that the tokenizer puts around each input; around token ids they are
        put too, unless they are there. Raises ContextError for the longest input beyond the context (nothing is ever
        cut off), UnsupportedError for dimensions that the model was not trained for.
        """
        if not request.inputs:
            raise InputError("there is nothing to embed", param="input")
        started_s = monotonic_s()
        rows = await anyio.to_thread.run_sync(self._tokenise, request.inputs, limiter=self._turn)
        longest = max(map(len, rows), default=0)
        if longest > self.facts.context_tokens:
            raise ContextError(longest, self.facts.context_tokens)
        vectors = [b""] * len(rows)
        width = 0
        for batch in texts.batches([len(row) for row in rows], self._batch_rows):
            states = await anyio.to_thread.run_sync(self._run, [rows[index] for index in batch], limiter=self._turn)
            found = _shortened(states, request.dimensions, self._shorter)
            width = found.shape[1]
            for index, vector in zip(batch, found, strict=True):
                vectors[index] = vector.astype("<f4").tobytes()
        usage = Usage(sum(map(len, rows)), 0, source="counted")
        return Embedded(tuple(vectors), width, usage, Timings(prefill_s=monotonic_s() - started_s))

    async def tokenise(self, request: TokeniseRequest) -> Tokens:
        """The tokens of a text, in the tokenizer's own spelling."""
        return await anyio.to_thread.run_sync(texts.tokens, self._tokenizer, request, limiter=self._turn)

    async def detokenise(self, request: DetokeniseRequest) -> str:
        """The text of token ids. Raises InputError for one outside the vocabulary."""
        return await anyio.to_thread.run_sync(texts.text, self._tokenizer, request, limiter=self._turn)

    async def close(self) -> None:
        """Free the model once the batch that may be running has ended; later requests are refused."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._encode = None

    def _tokenise(self, inputs: tuple[str, ...] | tuple[tuple[int, ...], ...]) -> list[list[int]]:
        return [self._tokenizer.encode(item).ids if isinstance(item, str) else self._wrap(item) for item in inputs]

    def _wrap(self, ids: tuple[int, ...]) -> list[int]:
        size = self._tokenizer.get_vocab_size()
        if not all(0 <= token < size for token in ids):
            raise InputError(f"a token id is outside the vocabulary of {size}", param="input")
        row = list(ids)
        if row[:1] != self._before:
            row = self._before + row
        return row if row[-1:] == self._after and len(row) > 1 else row + self._after

    def _run(self, rows: list[list[int]]) -> NDArray[numpy.float32]:
        """Vectors (rows x width) of one padded batch, normalised."""
        if self._encode is None:
            raise EngineError("the session is closed")
        # Shapes: each of feeds rows x tokens, states rows x tokens x width.
        feeds = texts.padded([texts.Row(row) for row in rows])
        states = self._encode(feeds)
        if self._pooling == "cls":
            return _normalised(states[:, 0])
        weights = feeds["attention_mask"][:, :, None].astype(numpy.float32)
        return _normalised((states * weights).sum(axis=1) / weights.sum(axis=1))


def facts_of(model: StoredModel, placement: Placement, engine: str, device: str, memory_bytes: int) -> SessionFacts:
    """What a session of `model` is, with a context of as much as the model, and the placement, allow."""
    trained = int(model.fact("context_tokens", texts.DEFAULT_CONTEXT_TOKENS))
    context_tokens = contexts.fitted(model.name, trained, placement)
    return SessionFacts(engine, device, placement.slots, context_tokens, memory_bytes)


def _shortened(
    vectors: NDArray[numpy.float32], dimensions: int | None, allowed: frozenset[int]
) -> NDArray[numpy.float32]:
    """The first `dimensions` values of each row, normalised again; only for sizes that the model was trained for."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    if dimensions not in allowed:
        raise UnsupportedError(
            f"this model makes vectors of {vectors.shape[1]} values", hint="leave dimensions out", param="dimensions"
        )
    return _normalised(vectors[:, :dimensions])


def _normalised(vectors: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
    norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    return numpy.divide(vectors, numpy.maximum(norms, 1e-12), dtype=numpy.float32)


def _sizes(fact: Any) -> frozenset[int]:
    """The vector sizes named by a manifest's fact `matryoshka`, e.g. `64,128,256`."""
    return frozenset(int(part) for part in str(fact).split(",") if part.strip().isdecimal())
