"""What every session that classifies must do; run over each registered engine, plug-ins too (see test_generator)."""

from __future__ import annotations

import anyio
import pytest
from tests.conformance.conftest import Loaded

from catena.core.errors import ContextError, EngineError, InputError
from catena.core.messages import Classified, ClassifyRequest

pytestmark = pytest.mark.anyio
BOUND_S = 120.0
TEXTS = ("good", "bad", "a good day in paris", "nothing in here")


async def classify(loaded: Loaded, *inputs: str) -> Classified:
    with anyio.fail_after(BOUND_S):
        return await loaded.session.classify(ClassifyRequest("m", inputs))


async def test_every_text_has_probabilities_of_all_labels_or_spans_inside_it(classifier: Loaded) -> None:
    found = await classify(classifier, *TEXTS)
    assert len(found.probabilities) + len(found.spans) == len(TEXTS)
    for chances in found.probabilities:
        assert len(chances) == len(found.labels) and all(0 <= chance <= 1 for chance in chances)
    for text, spans in zip(TEXTS, found.spans, strict=False):
        assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert found.usage.prompt_tokens >= len(TEXTS)


async def test_a_text_is_labelled_alike_alone_and_beside_others(classifier: Loaded) -> None:
    together = await classify(classifier, *TEXTS)
    for index, text in enumerate(TEXTS):
        alone = await classify(classifier, text)
        for found, expected in zip(alone.probabilities, together.probabilities[index : index + 1], strict=True):
            assert found == pytest.approx(expected, abs=1e-5)
        assert alone.spans == together.spans[index : index + 1]


async def test_a_text_that_is_too_long_is_refused_with_both_numbers(classifier: Loaded) -> None:
    size = classifier.session.facts.context_tokens
    with pytest.raises(ContextError) as caught:
        await classify(classifier, TEXTS[0], "good " * size)
    assert caught.value.needed > caught.value.available == size


async def test_nothing_to_classify_is_refused(classifier: Loaded) -> None:
    with pytest.raises(InputError):
        await classify(classifier)


async def test_a_closed_session_refuses(classifier: Loaded) -> None:
    session = await classifier.engine.load(classifier.model, classifier.placement)
    await session.close()
    with pytest.raises(EngineError):
        await session.classify(ClassifyRequest("m", TEXTS))
