"""POST /v1/rerank, /v2/rerank and /rerank: texts in order of relevance, in the shapes of Cohere and Jina."""

from __future__ import annotations

from math import exp
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import RerankRequest
from catena.reach.gateway.answering import server_timing, until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.sampling import at_least_one
from catena.reach.gateway.wire import check_fields, convert, read_json
from catena.reach.router import RerankedAnswer

MAX_DOCUMENTS = 1000
# Of so many letters at most, how many may be of another script than the Latin before a model for English is out of its
# depth.
MAX_LETTERS, MAX_FOREIGN = 2000, 0.3
LAST_LATIN = "\u024f"
encode = msgspec.json.Encoder().encode


class RerankWire(Struct, frozen=True):
    """The body; `fields.RERANK` says what becomes of each parameter."""

    model: str
    query: str
    documents: list[str | dict[str, Any]]
    top_n: int | None = None
    return_documents: bool | None = None
    truncation: bool | None = None
    max_tokens_per_doc: int | None = None


async def rerank(exchange: Exchange) -> None:
    """Answer as the service does whose address it is: only Cohere's version 2 leaves the documents out."""
    body = await read_json(exchange)
    check_fields(body, fields.RERANK, exchange.warnings)
    wire = convert(body, RerankWire)
    request = to_request(wire)
    exchange.enter("openai.rerank")
    async with until_gone(exchange):
        answer = await exchange.services.router.rerank(request, exchange.caller)
    exchange.receipt, exchange.model, exchange.usage = answer.receipt, answer.model.name, answer.reranked.usage
    exchange.headers_out["server-timing"] = server_timing(answer.reranked.timings, 0.0)
    exchange.warnings += warnings(request, answer)
    has_documents = wire.return_documents
    if has_documents is None:
        has_documents = not exchange.raw_path.startswith("/v2/")
    await exchange.answer(200, encode(form(request, answer, wire.top_n, has_documents=has_documents)))


def to_request(wire: RerankWire) -> RerankRequest:
    """What is asked, in our own words. Raises InputError or UnsupportedError naming the parameter."""
    if not wire.query.strip():
        raise InputError("query must not be empty", param="query")
    if not 1 <= len(wire.documents) <= MAX_DOCUMENTS:
        raise InputError(f"documents must be 1 to {MAX_DOCUMENTS}", param="documents")
    for name, value in (("top_n", wire.top_n), ("max_tokens_per_doc", wire.max_tokens_per_doc)):
        at_least_one(name, value)
    documents = tuple(_text(document, f"documents[{index}]") for index, document in enumerate(wire.documents))
    return RerankRequest(
        wire.model, wire.query, documents, may_cut=wire.truncation is not False, max_tokens=wire.max_tokens_per_doc
    )


def form(request: RerankRequest, answer: RerankedAnswer, top_n: int | None, *, has_documents: bool) -> dict[str, Any]:
    """The answer: `id`, `meta` and `results` as Cohere writes them, `model` and `usage` as Jina does."""
    scores = answer.reranked.scores
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:top_n]
    tokens = answer.reranked.usage.prompt_tokens
    results: list[dict[str, Any]] = []
    for index in order:
        result: dict[str, Any] = {"index": index, "relevance_score": _probability(scores[index])}
        if has_documents:
            result["document"] = {"text": request.documents[index]}
        results.append(result)
    return {
        "id": f"rerank-{answer.receipt.partition('_')[2]}",
        "object": "list",
        "model": answer.model.name,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": tokens}},
    }


def warnings(request: RerankRequest, answer: RerankedAnswer) -> list[str]:
    """What a caller should know of how the scores came about."""
    found: list[str] = []
    if cut := answer.reranked.cut:
        shown = ", ".join(map(str, cut[:10])) + (", ..." if len(cut) > 10 else "")
        found.append(f"{len(cut)} of the documents were read only in part, as far as the model reads: {shown}")
    if answer.model.fact("language") == "en" and is_foreign(request.query, *request.documents):
        found.append(f"{answer.model.name} is for English: its scores of other scripts mean little")
    return found


def is_foreign(*texts: str) -> bool:
    """Whether a good part of the letters are of another script than the Latin, or those of the first text are."""
    return _share(texts[0]) > MAX_FOREIGN or _share("".join(text[:200] for text in texts)) > MAX_FOREIGN


def _share(text: str) -> float:
    letters = [letter for letter in text[:MAX_LETTERS] if letter.isalpha()]
    return sum(letter > LAST_LATIN for letter in letters) / max(1, len(letters))


def _text(document: str | dict[str, Any], where: str) -> str:
    if isinstance(document, dict):
        if others := document.keys() - {"text"}:
            raise UnsupportedError(f"{where}: only text is read, not {sorted(others)[0][:40]}", param=where)
        document = document.get("text", "")
        if not isinstance(document, str):
            raise InputError(f"{where}.text must be a text", param=f"{where}.text")
    if not document.strip():
        raise InputError(f"{where} must not be empty", param=where)
    return document


def _probability(logit: float) -> float:
    """The logistic function, which such models are trained with."""
    return 1 / (1 + exp(-logit)) if logit >= 0 else exp(logit) / (1 + exp(logit))
