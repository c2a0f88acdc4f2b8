"""What every session that embeds must do; run over each registered engine, a plug-in's too (see test_generator)."""

from __future__ import annotations

import math
import struct
import traceback

import anyio
import pytest
from tests.conformance.conftest import Loaded

from catena.core.errors import ContextError, UnsupportedError
from catena.core.messages import Embedded, EmbedRequest

pytestmark = pytest.mark.anyio
BOUND_S = 120.0
TEXTS = (
    "The cat sat on the mat.",
    "A long sentence that goes on, and on, and on, until nobody remembers any more how it once began.",
    "x",
    "Prices rose by three per cent.",
)


async def embed(loaded: Loaded, *inputs: str) -> Embedded:
    with anyio.fail_after(BOUND_S):
        return await loaded.session.embed(EmbedRequest("m", inputs))


def cosine(one: bytes, other: bytes) -> float:
    count = len(one) // 4
    return sum(a * b for a, b in zip(struct.unpack(f"<{count}f", one), struct.unpack(f"<{count}f", other), strict=True))


async def test_every_input_has_one_normalised_vector_of_the_stated_width(embedder: Loaded) -> None:
    found = await embed(embedder, *TEXTS)
    assert len(found.vectors) == len(TEXTS)
    for vector in found.vectors:
        assert len(vector) == 4 * found.width
        assert math.isclose(cosine(vector, vector), 1.0, abs_tol=1e-4)


async def test_vectors_come_in_the_order_of_the_inputs_and_do_not_depend_on_their_neighbours(embedder: Loaded) -> None:
    together = await embed(embedder, *TEXTS)
    for text, vector in zip(TEXTS, together.vectors, strict=True):
        alone = await embed(embedder, text)
        assert cosine(alone.vectors[0], vector) > 0.9999


async def test_the_same_text_has_the_same_vector_and_another_text_another(embedder: Loaded) -> None:
    first, second, other = (await embed(embedder, TEXTS[0], TEXTS[0], TEXTS[3])).vectors
    assert first == second
    assert cosine(first, other) < 0.99


async def test_tokens_are_counted_over_all_inputs(embedder: Loaded) -> None:
    counts = [(await embed(embedder, text)).usage.prompt_tokens for text in TEXTS]
    assert all(count > 0 for count in counts)
    assert counts[1] > counts[0]
    usage = (await embed(embedder, *TEXTS)).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (sum(counts), 0)


async def test_an_input_beyond_the_context_is_refused_with_both_numbers(embedder: Loaded) -> None:
    context = embedder.session.facts.context_tokens
    with pytest.raises(ContextError) as caught:
        await embed(embedder, TEXTS[0], "zanzibar " * (context + 1))
    assert caught.value.available == context < caught.value.needed
    assert "zanzibar" not in "".join(traceback.format_exception_only(caught.value))
    assert (await embed(embedder, TEXTS[0])).vectors


async def test_dimensions_that_the_model_was_not_trained_for_are_refused(embedder: Loaded) -> None:
    width = (await embed(embedder, TEXTS[0])).width
    with pytest.raises(UnsupportedError):
        await embedder.session.embed(EmbedRequest("m", TEXTS, dimensions=width - 1))
    assert (await embedder.session.embed(EmbedRequest("m", TEXTS, dimensions=width))).width == width


async def test_requests_at_the_same_time_get_their_own_vectors(embedder: Loaded) -> None:
    expected = [(await embed(embedder, text)).vectors[0] for text in TEXTS]
    found: dict[int, bytes] = {}

    async def one(index: int) -> None:
        found[index] = (await embed(embedder, TEXTS[index])).vectors[0]

    async with anyio.create_task_group() as tasks:
        for index in range(len(TEXTS)):
            tasks.start_soon(one, index)
    assert all(cosine(found[index], expected[index]) > 0.9999 for index in found)
    assert len(found) == len(TEXTS)


async def test_a_cancelled_request_leaves_the_session_usable(embedder: Loaded) -> None:
    with anyio.move_on_after(0.01):
        await embed(embedder, *TEXTS * 8)
    assert len((await embed(embedder, *TEXTS)).vectors) == len(TEXTS)
