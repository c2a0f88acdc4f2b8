"""What every session that reranks must do; run over each registered engine, a plug-in's too (see test_generator)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.conformance.conftest import Loaded

from catena.core.errors import ContextError, EngineError, InputError
from catena.core.messages import Reranked, RerankRequest

pytestmark = pytest.mark.anyio
BOUND_S = 120.0
QUERY = "How many people live in Berlin?"
DOCUMENTS = (
    "Berlin has about 3.7 million inhabitants.",
    "Bread is made of flour, water and salt.",
    "Berlin is well known for its museums.",
)


async def rerank(loaded: Loaded, *documents: str, query: str = QUERY, **fields: Any) -> Reranked:
    with anyio.fail_after(BOUND_S):
        return await loaded.session.rerank(RerankRequest("m", query, documents, **fields))


async def test_each_document_has_a_score_in_the_order_asked_and_the_answer_has_the_highest(reranker: Loaded) -> None:
    found = await rerank(reranker, *DOCUMENTS)
    assert len(found.scores) == 3
    assert found.scores[0] > found.scores[2] > found.scores[1]
    turned = await rerank(reranker, *reversed(DOCUMENTS))
    assert turned.scores == pytest.approx(tuple(reversed(found.scores)), abs=1e-4)


async def test_a_score_does_not_depend_on_the_other_documents(reranker: Loaded) -> None:
    together = await rerank(reranker, *DOCUMENTS, "x", "Berlin " * 100)
    for index, document in enumerate(DOCUMENTS):
        assert (await rerank(reranker, document)).scores[0] == pytest.approx(together.scores[index], abs=1e-3)


async def test_tokens_are_counted_for_every_pair(reranker: Loaded) -> None:
    one, two = await rerank(reranker, DOCUMENTS[0]), await rerank(reranker, DOCUMENTS[0], DOCUMENTS[0])
    assert two.usage.prompt_tokens == 2 * one.usage.prompt_tokens > 0
    assert one.usage.completion_tokens == 0


async def test_what_is_too_long_is_refused_or_cut_and_named_but_never_cut_silently(reranker: Loaded) -> None:
    size = reranker.session.facts.context_tokens
    long = DOCUMENTS[0] + " and so on" * size
    with pytest.raises(ContextError) as caught:
        await rerank(reranker, DOCUMENTS[1], long)
    assert caught.value.needed > caught.value.available == size
    cut = await rerank(reranker, DOCUMENTS[1], long, may_cut=True)
    assert cut.cut == (1,)
    assert cut.scores[1] > cut.scores[0]
    assert cut.usage.prompt_tokens < 2 * size
    assert (await rerank(reranker, DOCUMENTS[1], may_cut=True)).cut == ()


async def test_a_lower_limit_of_tokens_is_kept(reranker: Loaded) -> None:
    found = await rerank(reranker, *DOCUMENTS, may_cut=True, max_tokens=16)
    assert found.cut == (0, 1, 2) and found.usage.prompt_tokens == 48
    with pytest.raises(ContextError):
        await rerank(reranker, *DOCUMENTS, max_tokens=16)


async def test_a_query_that_leaves_no_room_is_refused_though_documents_may_be_cut(reranker: Loaded) -> None:
    size = reranker.session.facts.context_tokens
    with pytest.raises(ContextError):
        await rerank(reranker, DOCUMENTS[0], query="who " * size, may_cut=True)


async def test_nothing_to_rerank_is_refused(reranker: Loaded) -> None:
    with pytest.raises(InputError):
        await rerank(reranker)


async def test_a_cancelled_request_leaves_the_session_usable(reranker: Loaded) -> None:
    expected = await rerank(reranker, *DOCUMENTS)
    with anyio.move_on_after(0.02) as scope:
        await rerank(reranker, *DOCUMENTS * 50)
    assert scope.cancelled_caught
    assert (await rerank(reranker, *DOCUMENTS)).scores == expected.scores


async def test_a_closed_session_refuses(reranker: Loaded) -> None:
    session = await reranker.engine.load(reranker.model, reranker.placement)
    await session.close()
    with pytest.raises(EngineError):
        await session.rerank(RerankRequest("m", QUERY, DOCUMENTS))
