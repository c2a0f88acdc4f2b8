"""GGUF models that read only: texts to vectors, and pairs of a query and a document to scores."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import ContextError, EngineError, InputError, UnsupportedError
from catena.core.messages import (
    Embedded,
    EmbedRequest,
    Reranked,
    RerankRequest,
    Timings,
    TokeniseRequest,
    Usage,
)
from catena.core.protocols import SessionFacts
from catena.run.engines.llama_cpp import wire, worker
from catena.run.engines.llama_cpp.call import Refused
from catena.run.engines.llama_cpp.header import Header
from catena.run.engines.llama_cpp.hosted import Hosted
from catena.run.engines.llama_cpp.process import Process

# A caller that left is noticed between two calls of the library; each takes so many texts.
CALL_TEXTS = 8


class _Vector(Struct, frozen=True):
    index: int
    embedding: str


class _Score(Struct, frozen=True):
    index: int
    relevance_score: float


class _Answer(Struct, frozen=True):
    usage: wire.Counts = wire.Counts()
    data: list[_Vector] = []
    results: list[_Score] = []
    error: wire.Failure | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class _Reader(Hosted):
    """A model that reads texts, a few with each call of the library."""

    def __init__(self, process: Process, facts: SessionFacts, header: Header) -> None:
        super().__init__(process, facts)
        self._num_vocabulary = header.num_vocabulary
        self._width = header.embedding_width

    async def _ask(self, kind: int, body: dict[str, Any]) -> _Answer:
        """One call on one slot; the library cannot stop it, so the slot of a caller who left is busy until its end."""
        await self.take(1)
        try:
            return _decode(await self.whole(kind, msgspec.json.encode(body), partial(self.slots.give, 1)))
        except (Refused, msgspec.DecodeError):
            raise EngineError("llama.cpp refused what it was given") from None


class Embedding(_Reader):
    """A model that embeds. Its vectors are L2-normalised by the library."""

    async def embed(self, request: EmbedRequest) -> Embedded:
        """One vector per input, in order.

        Raises ContextError for the longest input beyond the context (nothing is cut off), UnsupportedError for other
        dimensions than the model's, InputError.
        """
        self.check_open()
        if not request.inputs:
            raise InputError("there is nothing to embed", param="input")
        if request.dimensions not in (None, self._width):
            raise UnsupportedError(
                f"this model gives vectors of {self._width} numbers, and no shorter ones",
                hint="leave dimensions out",
                param="dimensions",
            )
        began_s = monotonic_s()
        vectors: list[bytes] = []
        num_tokens = 0
        for start in range(0, len(request.inputs), CALL_TEXTS):
            inputs = request.inputs[start : start + CALL_TEXTS]
            self._check(inputs)
            answer = await self._ask(worker.EMBED, {"input": inputs, "encoding_format": "base64"})
            if answer.error is not None:
                raise await self._failure(request.inputs[start:])
            found = [base64.b64decode(one.embedding) for one in sorted(answer.data, key=lambda one: one.index)]
            if [len(vector) for vector in found] != [4 * self._width] * len(inputs):
                raise EngineError("llama.cpp did not answer every text with a vector")
            vectors += found
            num_tokens += answer.usage.prompt_tokens
        return Embedded(tuple(vectors), self._width, Usage(num_tokens, 0), Timings(prefill_s=monotonic_s() - began_s))

    def _check(self, inputs: Sequence[str | tuple[int, ...]]) -> None:
        for one in inputs:
            if not isinstance(one, str) and not (one and all(0 <= token < self._num_vocabulary for token in one)):
                raise InputError(f"token ids are from 0 to {self._num_vocabulary - 1}, at least one", param="input")

    async def _failure(self, inputs: Sequence[str | tuple[int, ...]]) -> Exception:
        """Why one of `inputs` was refused: the library says it in words that are no promise."""
        longest = 0
        for one in inputs:
            if isinstance(one, str):
                longest = max(longest, len((await self.tokenise(TokeniseRequest("", one, adds_special=True))).ids))
            else:
                longest = max(longest, len(one))
        if longest > self.facts.context_tokens:
            return ContextError(longest, self.facts.context_tokens)
        return EngineError("llama.cpp failed on a text")


class Reranking(_Reader):
    """A model that reads a query with a document and gives one score."""

    async def rerank(self, request: RerankRequest) -> Reranked:
        """One logit per document, in order. A document that may be cut loses its end, never the query.

        Raises ContextError for the longest pair beyond the context, or for a query that fills it.
        """
        self.check_open()
        if not request.documents:
            raise InputError("there is nothing to rerank", param="documents")
        began_s = monotonic_s()
        documents, cut = await self._fitted(request)
        scores: list[float] = []
        num_tokens = 0
        for start in range(0, len(documents), CALL_TEXTS):
            some = documents[start : start + CALL_TEXTS]
            answer = await self._ask(worker.RERANK, {"query": request.query, "documents": some})
            if answer.error is not None or len(answer.results) != len(some):
                raise EngineError("llama.cpp failed on a document")
            scores += [one.relevance_score for one in sorted(answer.results, key=lambda one: one.index)]
            num_tokens += answer.usage.prompt_tokens
        return Reranked(tuple(scores), Usage(num_tokens, 0), Timings(prefill_s=monotonic_s() - began_s), cut)

    async def _fitted(self, request: RerankRequest) -> tuple[list[str], tuple[int, ...]]:
        """The documents, no pair longer than allowed, and which of them were cut."""
        limit = min(request.max_tokens or self.facts.context_tokens, self.facts.context_tokens)
        num_query, num_around = len(await self._ids(request.query)), await self._num_around()
        documents: list[str] = []
        cut: list[int] = []
        longest = 0
        for index, document in enumerate(request.documents):
            ids = await self._ids(document)
            needed, room = num_query + num_around + len(ids), limit - num_query - num_around
            longest = max(longest, needed)
            if needed > limit and request.may_cut:
                if room < 1:
                    raise ContextError(needed, limit, hint="shorten the query: it leaves no room for a document")
                document = await self._start_of(document, ids, room)  # noqa: PLW2901
                cut.append(index)
            documents.append(document)
        if longest > limit and not request.may_cut:
            raise ContextError(longest, limit, hint="shorten the documents, or let them be cut (truncation)")
        return documents, tuple(cut)

    async def _start_of(self, document: str, ids: tuple[int, ...], num_tokens: int) -> str:
        """As much of `document` from its start as `num_tokens` hold.

        The text of tokens is not always the text they were made of, so the cut is looked for in the text itself.
        """
        low, high, found = 0, len(document), ""
        while low < high:
            middle = (low + high + 1) // 2
            if len(await self._ids(document[:middle])) <= num_tokens:
                low, found = middle, document[:middle]
            else:
                high = middle - 1
        return found

    async def _ids(self, text: str) -> tuple[int, ...]:
        """The tokens of `text` by itself; the names of special ones are letters, as the library reads pairs."""
        return (await self.tokenise(TokeniseRequest("", text, adds_special=False, reads_special=False))).ids

    async def _num_around(self) -> int:
        """How many tokens stand around and between a query and a document."""
        answer = await self._ask(worker.RERANK, {"query": "a", "documents": ["a"]})
        return answer.usage.prompt_tokens - 2 * len(await self._ids("a"))
