"""The ONNX engine with bge-small-en-v1.5, against onnxruntime and the tokenizer asked directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import pytest
import tokenizers
from tests.conformance.conftest import Loaded
from tests.run.engines.conftest import by_hand

from catena.core.errors import ContextError, FormatError, InputError, UnsupportedError
from catena.core.manifest import FileEntry, StoredModel
from catena.core.messages import Embedded, EmbedRequest
from catena.core.protocols import Placement
from catena.run.engines import onnx

pytestmark = pytest.mark.anyio
TEXTS = tuple(f"Sentence number {number} speaks of {'ships ' * (number % 7)}and harbours." for number in range(40))


class Reference:
    """onnxruntime and the tokenizer without our engine."""

    def __init__(self, model: StoredModel) -> None:
        self.tokenizer = tokenizers.Tokenizer.from_file(str(model.path("tokenizer")))
        self.runner: Any = onnxruntime.InferenceSession(str(model.path("weights")), providers=["CPUExecutionProvider"])

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def states(self, ids: list[int]) -> numpy.ndarray:
        """Last hidden states (tokens x 384) of one text."""
        row = numpy.array([ids], dtype=numpy.int64)
        feeds = {"input_ids": row, "attention_mask": numpy.ones_like(row), "token_type_ids": numpy.zeros_like(row)}
        return self.runner.run(["last_hidden_state"], feeds)[0][0]


@pytest.fixture(scope="module")
def reference(encoder: StoredModel) -> Reference:
    return Reference(encoder)


async def embed(loaded: Loaded, *inputs: Any, **fields: Any) -> Embedded:
    return await loaded.session.embed(EmbedRequest("m", inputs, **fields))


def rows(found: Embedded) -> numpy.ndarray:
    return numpy.array([numpy.frombuffer(vector, "<f4") for vector in found.vectors])


def unit(vector: numpy.ndarray) -> numpy.ndarray:
    return vector / numpy.linalg.norm(vector)


async def test_a_vector_is_the_normalised_state_of_the_first_token(bge: Loaded, reference: Reference) -> None:
    found = rows(await embed(bge, *TEXTS[:5]))
    for text, vector in zip(TEXTS, found, strict=False):
        assert vector @ unit(reference.states(reference.ids(text))[0]) > 0.99999


async def test_a_model_that_pools_by_mean_gets_the_mean(bge: Loaded, reference: Reference) -> None:
    manifest = bge.model.manifest
    facts = {**manifest.facts, "pooling": "mean"}
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    model = StoredModel(type(manifest)(**{**fields, "facts": facts}), bge.model.digest, bge.model.paths)
    session = await onnx.Engine().load(model, bge.placement)
    found = rows(await session.embed(EmbedRequest("m", (TEXTS[0],))))[0]
    assert found @ unit(reference.states(reference.ids(TEXTS[0])).mean(axis=0)) > 0.99999
    await session.close()


async def test_a_text_has_the_same_vector_in_any_company(bge: Loaded) -> None:
    together = rows(await embed(bge, *TEXTS))
    for index in (0, 6, 17, 39):
        assert together[index] @ rows(await embed(bge, TEXTS[index]))[0] > 0.999999


async def test_meaning_is_near_meaning(bge: Loaded) -> None:
    texts = ("A dog runs through the park.", "A puppy is running in a garden.", "Interest rates rose again.")
    found = rows(await embed(bge, *texts))
    assert found[0] @ found[1] > found[0] @ found[2] + 0.1


async def test_tokens_are_those_that_the_model_reads(bge: Loaded, reference: Reference) -> None:
    found = await embed(bge, *TEXTS)
    assert found.usage.prompt_tokens == sum(len(reference.ids(text)) for text in TEXTS)
    assert found.width == 384


async def test_token_ids_embed_as_their_text_does_with_and_without_special_tokens(
    bge: Loaded, reference: Reference
) -> None:
    ids = tuple(reference.ids(TEXTS[3]))
    text, whole, bare = (await embed(bge, TEXTS[3])), (await embed(bge, ids)), (await embed(bge, ids[1:-1]))
    assert text.vectors == whole.vectors == bare.vectors
    assert text.usage == whole.usage == bare.usage
    with pytest.raises(InputError):
        await embed(bge, (1, 10**6))


async def test_an_input_of_the_whole_context_is_read_and_one_token_more_refused(
    bge: Loaded, reference: Reference
) -> None:
    word = reference.ids("ship")[1]
    assert (await embed(bge, (word,) * 510)).usage.prompt_tokens == 512
    with pytest.raises(ContextError) as caught:
        await embed(bge, TEXTS[0], " ".join(["ship"] * 511))
    assert (caught.value.needed, caught.value.available) == (513, 512)


@pytest.mark.parametrize("dimensions", [1, 128, 383, 385])
async def test_shorter_vectors_are_refused_as_the_model_was_not_trained_for_them(bge: Loaded, dimensions: int) -> None:
    with pytest.raises(UnsupportedError, match="384"):
        await embed(bge, TEXTS[0], dimensions=dimensions)


async def test_an_empty_text_has_a_vector_too(bge: Loaded) -> None:
    found = await embed(bge, "")
    assert found.usage.prompt_tokens == 2
    assert numpy.isclose(numpy.linalg.norm(rows(found)[0]), 1.0, atol=1e-5)


async def test_no_inputs_are_refused(bge: Loaded) -> None:
    with pytest.raises(InputError):
        await embed(bge)


async def test_a_broken_tokenizer_is_a_format_error(bge: Loaded, tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"model": 7')
    name = next(entry.name for entry in bge.model.manifest.files if entry.role == "tokenizer")
    model = StoredModel(bge.model.manifest, bge.model.digest, {**bge.model.paths, name: broken})
    with pytest.raises(FormatError):
        await onnx.Engine().load(model, Placement())


def test_only_an_encoder_with_its_tokenizer_is_accepted(encoder: StoredModel, tmp_path: Path) -> None:
    engine = onnx.Engine()
    assert engine.accepts(encoder) is None
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    alone = by_hand(path, "alone", "embed", "onnx")
    assert "tokenizer" in (engine.accepts(alone) or "")
    entry = FileEntry("tokenizer", "t", 1, "sha256:" + "0" * 64)
    fields = {name: getattr(alone.manifest, name) for name in alone.manifest.__struct_fields__}
    odd = type(alone.manifest)(**{**fields, "files": (*alone.manifest.files, entry), "facts": {"pooling": "last"}})
    assert "last" in (engine.accepts(StoredModel(odd, "", {})) or "")
