"""A folder with a speech model: what belongs to it is taken, and pairs that cannot transcribe are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import graphs

from catena.core.errors import FormatError, UnsupportedError
from catena.store import Store

ENCODER = graphs.model(
    [graphs.node("Identity", "input_values", "last_hidden_state")],
    [graphs.port("input_values", graphs.FLOAT, ("batch", "samples"))],
    [graphs.port("last_hidden_state", graphs.FLOAT, ("batch", "samples"))],
    [graphs.floats("w", (2, 2), [1, 2, 3, 4])],
)
DECODER = graphs.model(
    [graphs.node("Identity", "encoder_hidden_states", "logits")],
    [
        graphs.port("input_ids", graphs.INT64, ("batch", "tokens")),
        graphs.port("encoder_hidden_states", graphs.FLOAT, ("batch", "states", 4)),
    ],
    [graphs.port("logits", graphs.FLOAT, ("batch", "states", 4))],
    [graphs.floats("w", (3,), [1, 2, 3])],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as those who publish speech models lay it out."""
    place = tmp_path / "speech"
    place.mkdir()
    (place / "encoder_model.onnx").write_bytes(ENCODER)
    (place / "decoder_model_merged.onnx").write_bytes(DECODER)
    (place / "silero_vad_16k_sequence.onnx").write_bytes(ENCODER)
    (place / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    return place


def test_a_folder_with_encoder_and_decoder_transcribes(store: Store, folder: Path) -> None:
    manifest = store.pull(str(folder)).row.manifest
    assert (manifest.name, manifest.task, manifest.format) == ("speech", "transcribe", "onnx")
    assert manifest.files[0].role == "weights"
    assert {entry.role for entry in manifest.files} == {"weights", "decoder", "tokenizer", "vad"}
    assert manifest.facts["parameters"] == 4 + 3


def test_without_a_tokenizer_it_is_refused(store: Store, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FormatError, match=r"no tokenizer\.json"):
        store.pull(str(folder))


def test_an_encoder_of_something_else_than_samples_is_refused(store: Store, folder: Path) -> None:
    (folder / "encoder_model.onnx").write_bytes(ENCODER.replace(b"input_values", b"input_pixels"))
    with pytest.raises(UnsupportedError, match="speech model") as caught:
        store.pull(str(folder))
    assert "input_values" in caught.value.hint
