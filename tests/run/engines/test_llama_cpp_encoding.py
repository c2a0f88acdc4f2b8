"""GGUF models that read only, beside the ONNX models they were made of."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator

import pytest
from tests.conformance.conftest import Loaded, stored

from catena.core.errors import ContextError, InputError
from catena.core.messages import EmbedRequest, RerankRequest, TokeniseRequest
from catena.core.protocols import Placement
from catena.run.engines import llama_cpp, onnx

pytestmark = pytest.mark.anyio
TEXTS = (
    "The cat sat on the mat.",
    "Prices rose by three per cent in the last quarter.",
    "How many people live in Berlin?",
    "A fourth, a fifth",
    "and more texts",
    "than one call",
    "of the library",
    "takes at once,",
    "so that a second follows.",
)
QUERY = "How many people live in Berlin?"


@pytest.fixture(scope="module")
async def small(anyio_backend: str) -> AsyncGenerator[Loaded]:
    engine, model, place = llama_cpp.Engine(), stored("bge-small-gguf"), Placement(threads=1, slots=2)
    session = await engine.load(model, place)
    yield Loaded(engine, model, place, session)
    await session.close()


@pytest.fixture(scope="module")
async def judge(anyio_backend: str) -> AsyncGenerator[Loaded]:
    engine, model, place = llama_cpp.Engine(), stored("ms-marco-minilm-gguf"), Placement(threads=1, context_tokens=256)
    session = await engine.load(model, place)
    yield Loaded(engine, model, place, session)
    await session.close()


def cosine(one: bytes, other: bytes) -> float:
    form = f"<{len(one) // 4}f"
    return sum(a * b for a, b in zip(struct.unpack(form, one), struct.unpack(form, other), strict=True))


async def test_vectors_are_those_of_the_onnx_model_up_to_its_rounding(small: Loaded, bge: Loaded) -> None:
    found = await small.session.embed(EmbedRequest("m", TEXTS))
    expected = await bge.session.embed(EmbedRequest("m", TEXTS))
    assert found.usage.prompt_tokens == expected.usage.prompt_tokens
    likeness = [cosine(one, other) for one, other in zip(found.vectors, expected.vectors, strict=True)]
    assert min(likeness) > 0.98, likeness


async def test_token_ids_have_the_vector_of_their_text(small: Loaded) -> None:
    ids = (await small.session.tokenise(TokeniseRequest("m", TEXTS[0]))).ids
    (by_ids,) = (await small.session.embed(EmbedRequest("m", (ids,)))).vectors
    (by_text,) = (await small.session.embed(EmbedRequest("m", TEXTS[:1]))).vectors
    assert cosine(by_ids, by_text) > 0.9999


@pytest.mark.parametrize("ids", [(), (-1,), (1 << 20,)])
async def test_ids_outside_the_vocabulary_are_refused(small: Loaded, ids: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        await small.session.embed(EmbedRequest("m", (ids,)))


async def test_too_many_token_ids_are_refused_with_both_numbers(small: Loaded) -> None:
    with pytest.raises(ContextError) as caught:
        await small.session.embed(EmbedRequest("m", ((1996,) * 600,)))
    assert (caught.value.needed, caught.value.available) == (600, 512)


async def test_the_context_may_be_set_lower_than_the_model_reads(judge: Loaded) -> None:
    assert judge.session.facts.context_tokens == 256
    found = await judge.session.rerank(RerankRequest("m", QUERY, ("Berlin " * 300,), may_cut=True))
    assert found.cut == (0,) and found.usage.prompt_tokens <= 256


async def test_scores_rank_as_the_onnx_model_ranks(judge: Loaded) -> None:
    documents = (
        "Berlin has about 3.7 million inhabitants.",
        "Bread is made of flour, water and salt.",
        "Berlin is well known for its museums.",
        "The population of Berlin grew last year.",
    )
    session = await onnx.Engine().load(stored("ms-marco-minilm-l12-v2"), Placement(threads=1))
    try:
        expected = await session.rerank(RerankRequest("m", QUERY, documents))
    finally:
        await session.close()
    found = await judge.session.rerank(RerankRequest("m", QUERY, documents))

    def order(scores: tuple[float, ...]) -> list[int]:
        return sorted(range(len(scores)), key=lambda index: -scores[index])

    assert order(found.scores) == order(expected.scores)


async def test_the_name_of_a_special_token_in_a_document_is_only_letters(judge: Loaded) -> None:
    letter, name = [
        (await judge.session.rerank(RerankRequest("m", QUERY, (document,)))).usage.prompt_tokens
        for document in ("x", "[SEP]")
    ]
    assert name == letter + 2, "[, sep and ] are three tokens"
    documents = ("[SEP] " * 100,)
    cut = await judge.session.rerank(RerankRequest("m", QUERY, documents, may_cut=True, max_tokens=32))
    assert cut.cut == (0,) and 30 <= cut.usage.prompt_tokens <= 32
