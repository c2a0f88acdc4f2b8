"""Rerankers: encoder models that read a query and a document together and give one score."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread

from catena.core.clock import monotonic_s
from catena.core.errors import ContextError, EngineError, FormatError, InputError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    DetokeniseRequest,
    Reranked,
    RerankRequest,
    Timings,
    TokeniseRequest,
    Tokens,
    Usage,
)
from catena.core.protocols import Placement, SessionFacts
from catena.run import contexts
from catena.run.encoding import texts
from catena.run.encoding.texts import Row
from catena.run.engines.onnx import runtime

_OUTPUT = "logits"


def refusal(model: StoredModel) -> str | None:
    """Why the model cannot rerank here; None if it can."""
    if not {"weights", "tokenizer"} <= {file.role for file in model.manifest.files}:
        return f"{model.name} has no file of role weights or tokenizer"
    return None


def load(model: StoredModel, placement: Placement) -> Session:
    """Load weights and tokenizer. Raises FormatError."""
    runner, tokenizer = runtime.opened(model, placement), texts.read_tokenizer(model)
    inputs, outputs = ({node.name: node for node in nodes} for nodes in (runner.get_inputs(), runner.get_outputs()))
    if not inputs.keys() <= texts.INPUTS or _OUTPUT not in outputs or outputs[_OUTPUT].shape[1:] != [1]:
        raise FormatError(f"{model.name} does not give one score per text", hint=runtime.verify_hint(model))
    trained = int(model.fact("context_tokens", texts.DEFAULT_CONTEXT_TOKENS))
    facts = SessionFacts(
        engine=runtime.name(),
        device="cpu",
        slots=placement.slots,
        context_tokens=contexts.fitted(model.name, trained, placement),
        memory_bytes=texts.MEMORY_FACTOR * model.path("weights").stat().st_size,
    )
    max_rows = 1 if runtime.quantises_batches(model) else texts.BATCH_ROWS
    return Session(runner, tokenizer, facts, max_rows)


class Session:
    """A reranker, one batch at a time on all of its threads; requests take turns between batches."""

    def __init__(self, runner: Any, tokenizer: Any, facts: SessionFacts, max_rows: int) -> None:
        self.facts = facts
        self._runner = runner
        self._tokenizer = tokenizer
        self._inputs = [node.name for node in runner.get_inputs()]
        self._max_rows = max_rows
        self._turn = anyio.CapacityLimiter(1)

    async def rerank(self, request: RerankRequest) -> Reranked:
        """One logit per document, in order. A document that may be cut loses its end, never the query.

        Raises ContextError for the longest pair beyond the context, or for a query that fills it.
        """
        if not request.documents:
            raise InputError("there is nothing to rerank", param="documents")
        started_s = monotonic_s()
        rows, cut = await anyio.to_thread.run_sync(self._tokenise, request, limiter=self._turn)
        scores = [0.0] * len(rows)
        for batch in texts.batches([len(row.ids) for row in rows], self._max_rows):
            found = await anyio.to_thread.run_sync(self._run, [rows[index] for index in batch], limiter=self._turn)
            for index, score in zip(batch, found, strict=True):
                scores[index] = score
        usage = Usage(sum(len(row.ids) for row in rows), 0, source="counted")
        return Reranked(tuple(scores), usage, Timings(prefill_s=monotonic_s() - started_s), cut)

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
                self._runner = None

    def _tokenise(self, request: RerankRequest) -> tuple[list[Row], tuple[int, ...]]:
        """Each pair, and the indices of those that were cut."""
        limit = min(request.max_tokens or self.facts.context_tokens, self.facts.context_tokens)
        encoded = self._tokenizer.encode_batch([(request.query, document) for document in request.documents])
        longest = max(len(pair.ids) for pair in encoded)
        if longest > limit and not request.may_cut:
            raise ContextError(longest, limit, hint="shorten the documents, or let them be cut (truncation)")
        rows: list[Row] = []
        cut: list[int] = []
        for index, pair in enumerate(encoded):
            ids, types = pair.ids, pair.type_ids
            if len(ids) > limit:
                num_last = _num_last(pair.special_tokens_mask)
                if len(ids) - pair.sequence_ids.count(1) >= limit:
                    raise ContextError(len(ids), limit, hint="shorten the query: it leaves no room for a document")
                ids = ids[: limit - num_last] + ids[-num_last:] if num_last else ids[:limit]
                types = types[: limit - num_last] + types[-num_last:] if num_last else types[:limit]
                cut.append(index)
            rows.append(Row(ids, types))
        return rows, tuple(cut)

    def _run(self, rows: list[Row]) -> list[float]:
        if self._runner is None:
            raise EngineError("the session is closed")
        feeds = texts.padded(rows)
        try:
            (logits,) = self._runner.run([_OUTPUT], {name: feeds[name] for name in self._inputs})
        except runtime.ERRORS as error:
            raise EngineError("onnxruntime failed on an input") from error
        return [float(score) for score in logits[:, 0]]


def _num_last(marks: list[int]) -> int:
    """How many special tokens end a row, given 1 for each that is special."""
    return next((count for count, mark in enumerate(reversed(marks)) if not mark), 0)
