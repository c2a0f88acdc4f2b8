"""Reranking with ms-marco-minilm-l12-v2, against onnxruntime and the tokenizer asked directly."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import pytest
import tokenizers
from tests.conformance.conftest import Loaded, stored

from catena.core.errors import FormatError
from catena.core.manifest import StoredModel
from catena.core.messages import RerankRequest
from catena.core.protocols import Placement
from catena.run.engines import onnx

pytestmark = pytest.mark.anyio
MODEL = "ms-marco-minilm-l12-v2"
QUERY = "why is the sky blue?"
DOCUMENTS = (
    "Sunlight is scattered by air, and blue light more than red.",
    "The sea is salty.",
    "Blue",
    " ".join(f"word{number}" for number in range(120)),
)


@pytest.fixture(scope="module")
async def minilm(anyio_backend: str) -> AsyncGenerator[Loaded]:
    engine, model, place = onnx.Engine(), stored(MODEL), Placement(threads=1)
    session = await engine.load(model, place)
    yield Loaded(engine, model, place, session)
    await session.close()


def logits(model: StoredModel, documents: tuple[str, ...]) -> list[float]:
    """Each score by onnxruntime, a pair at a time, as the tokenizer's own file pads it: to 512."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model.path("tokenizer")))
    runner: Any = onnxruntime.InferenceSession(str(model.path("weights")), providers=["CPUExecutionProvider"])
    tokenizer.no_padding()
    found: list[float] = []
    for document in documents:
        pair = tokenizer.encode(QUERY, document)
        rows = {
            "input_ids": pair.ids,
            "attention_mask": pair.attention_mask,
            "token_type_ids": pair.type_ids,
        }
        feeds = {name: numpy.array([row], dtype=numpy.int64) for name, row in rows.items()}
        found.append(float(runner.run(["logits"], feeds)[0][0, 0]))
    return found


async def test_scores_are_those_of_onnxruntime(minilm: Loaded) -> None:
    found = await minilm.session.rerank(RerankRequest("m", QUERY, DOCUMENTS))
    assert found.scores == pytest.approx(logits(minilm.model, DOCUMENTS), abs=1e-5)
    assert found.scores[0] == max(found.scores)


async def test_short_pairs_are_not_padded_to_the_length_that_the_file_of_the_tokenizer_names(minilm: Loaded) -> None:
    found = await minilm.session.rerank(RerankRequest("m", QUERY, ("a", "b")))
    assert found.usage.prompt_tokens < 40


async def test_a_cut_pair_keeps_the_query_and_the_mark_at_its_end(minilm: Loaded) -> None:
    rows, cut = minilm.session._tokenise(RerankRequest("m", QUERY, DOCUMENTS, may_cut=True, max_tokens=24))
    assert cut == (3,)
    tokenizer = minilm.session._tokenizer
    query = tokenizer.encode(QUERY).ids
    assert list(rows[3].ids[: len(query)]) == query
    assert len(rows[3].ids) == len(rows[3].types) == 24
    assert rows[3].ids[-1] == query[-1]
    assert rows[3].types[-1] == 1


async def test_a_model_with_more_than_one_score_is_refused(minilm: Loaded, tmp_path: Path) -> None:
    encoder = stored("bge-small-en-v1.5")
    wrong = StoredModel(minilm.model.manifest, minilm.model.digest, {**minilm.model.paths})
    wrong.paths["model.onnx"] = encoder.path("weights")
    with pytest.raises(FormatError, match="one score"):
        await onnx.Engine().load(wrong, minilm.placement)
