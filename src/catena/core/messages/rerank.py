"""Texts in order of relevance: what is asked of a reranking model and what comes back."""

from __future__ import annotations

from msgspec import Struct

from catena.core.messages.events import Timings, Usage


class RerankRequest(Struct, frozen=True, tag="rerank"):
    """How well does each of `documents` answer `query`?

    A query and document that are longer together than `max_tokens`, or than the model reads, are cut at the end of the
    document where `may_cut`, else refused.
    """

    model: str
    query: str
    documents: tuple[str, ...]
    may_cut: bool = False
    max_tokens: int | None = None


class Reranked(Struct, frozen=True):
    """One score per document, in the order asked: the model's own, higher is better, as the logit of a probability.

    `cut` are the indices of the documents that were read only in part.
    """

    scores: tuple[float, ...]
    usage: Usage
    timings: Timings = Timings()
    cut: tuple[int, ...] = ()
