"""Classifiers of texts and of tokens: small made models whose answers are known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import classifiers
from tests.classifiers import TEXT_ROWS, WORDS, classifier

from catena.core.errors import ContextError, EngineError, FormatError, InputError
from catena.core.messages import Classified, ClassifyRequest
from catena.core.protocols import Classifier, Placement
from catena.core.settings import StoreSettings
from catena.run.engines import onnx
from catena.store import Store
from catena.watch.keys import Signer

pytestmark = pytest.mark.anyio
Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path) -> Any:
    """Stores a model with its configuration and loads it; closed after the test."""
    home = tmp_path / "home"
    home.mkdir()
    store = Store.open(home, StoreSettings(), Signer.open(home))
    sessions: list[Any] = []

    async def one(graph: bytes, config: dict[str, Any] | str | None, **place: Any) -> Any:
        folder = classifiers.write(tmp_path / f"model-{len(sessions)}", graph, config)
        model = store.resolve(store.pull(str(folder), name=folder.name).row.name)
        assert model.manifest.task == "classify"
        sessions.append(await onnx.Engine().load(model, Placement(threads=1, **place)))
        return sessions[-1]

    yield one
    for session in sessions:
        await session.close()
    store.close()


@pytest.fixture
async def moods(serve: Serve) -> Any:
    return await serve(classifiers.moods(), classifiers.MOODS)


@pytest.fixture
async def names(serve: Serve) -> Any:
    return await serve(classifiers.names(), classifiers.NAMES)


async def classify(session: Any, *inputs: str) -> Classified:
    return await session.classify(ClassifyRequest("m", inputs))


async def test_a_text_has_the_probability_of_each_label(moods: Any) -> None:
    assert isinstance(moods, Classifier)
    found = await classify(moods, "good", "bad in london", "in")
    assert found.labels == ("NEGATIVE", "POSITIVE")
    good, bad, neither = found.probabilities
    assert good == pytest.approx((1 / (1 + math.e**2), 1 / (1 + math.e**-2)))
    assert bad == pytest.approx((1 / (1 + math.e**-3), 1 / (1 + math.e**3)))
    assert neither == pytest.approx((0.5, 0.5))
    assert found.spans == ()
    assert found.usage.prompt_tokens == 3 + 5 + 3, "the padding of the tokenizer's file was counted"


async def test_labels_that_do_not_exclude_one_another_have_probabilities_of_their_own(serve: Serve) -> None:
    rows = [TEXT_ROWS.get(word, (-1.0, -1.0)) for word in WORDS]
    config = {"problem_type": "multi_label_classification"}
    session = await serve(classifier(rows, is_of_tokens=False), config)
    found = await classify(session, "good bad")
    assert found.labels == ("LABEL_0", "LABEL_1")
    assert found.probabilities[0] == pytest.approx((1 / (1 + math.e**-3), 1 / (1 + math.e**-2)))


async def test_tokens_of_one_name_are_one_span_with_its_place_in_the_text(names: Any) -> None:
    text = "Ada ada lovelace  in london paris ada"
    found = await classify(names, text)
    assert found.probabilities == ()
    (spans,) = found.spans
    assert [(one.label, text[one.start : one.end]) for one in spans] == [
        ("PER", "ada lovelace"),
        ("LOC", "london"),
        ("LOC", "paris"),
        ("PER", "ada"),
    ]
    sure = math.e**4 / (math.e**4 + 3)
    assert all(one.probability == pytest.approx(sure) for one in spans)


async def test_each_text_has_the_spans_that_it_has_alone(names: Any) -> None:
    texts = ("ada lovelace", "in", "in london " * 5, "lovelace in ada")
    together = await classify(names, *texts)
    for text, spans in zip(texts, together.spans, strict=True):
        assert (await classify(names, text)).spans == (spans,)


async def test_a_text_longer_than_the_model_reads_is_refused(moods: Any) -> None:
    assert (await classify(moods, "good " * 10)).probabilities
    with pytest.raises(ContextError) as caught:
        await classify(moods, "in", "good " * 11)
    assert (caught.value.needed, caught.value.available) == (13, 12)


async def test_nothing_to_classify_is_refused(moods: Any) -> None:
    with pytest.raises(InputError):
        await classify(moods)


async def test_a_closed_session_refuses(moods: Any) -> None:
    await moods.close()
    with pytest.raises(EngineError):
        await classify(moods, "good")


async def test_labels_that_cannot_be_read_are_refused(serve: Serve) -> None:
    rows = [(0.0, 0.0)] * len(WORDS)
    with pytest.raises(FormatError, match="labels"):
        await serve(classifier(rows, is_of_tokens=False), '{"id2label": ["no", "yes"]}')
