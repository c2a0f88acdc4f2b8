"""Conversions: the child is what its parent is by weights, outputs and in an engine, and says whose it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.build.conftest import write_llama

from catena.build import convert
from catena.build.convert import Converted, Expected, Made, Measure
from catena.cli.agreement import compared, measured
from catena.core.errors import CatenaError, EngineError, NotFoundError, UnsupportedError
from catena.core.settings import RunSettings
from catena.store import Store
from catena.store.formats import gguf as header
from catena.store.rows import silent

RUN = RunSettings(threads=1, slots=1, prompt_cache_bytes=1 << 20)


def converted(
    store: Store, home: Path, parent: str, target: str, quantise: str | None = None, name: str = "child"
) -> Converted:
    return convert.convert(store, parent, target, name, quantise, home / "run", silent)


def in_engine(store: Store, home: Path, parent: str, done: Converted) -> Measure:
    measure = compared(store.resolve(done.row.name), store.resolve(parent), done.made.expected, RUN, home)
    assert measure is not None
    return measure


def test_a_llama_of_safetensors_says_as_a_gguf_what_its_network_says(store: Store, home: Path, llama: Path) -> None:
    parent = store.pull(str(llama), name="parent").row
    done = converted(store, home, "parent", "gguf", "F32")
    manifest = done.row.manifest
    assert (manifest.task, manifest.facts["architecture"], manifest.facts["layers"]) == ("generate", "llama", 2)
    assert manifest.provenance.parents == (parent.digest,)
    assert manifest.provenance.recipe is not None and "gguf 0." in manifest.provenance.recipe
    assert "quantise=F32" in manifest.provenance.recipe
    assert store.chat_template("child") == "{{ messages[0].content }}"
    # The reference is a network of our own, in another library, from the parent's files.
    measure = in_engine(store, home, "parent", done)
    assert measure.is_good and measure.value < 0.01
    assert "6 of 6" in measure.what


def test_rows_in_another_order_would_be_noticed(
    store: Store, home: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catena.build.convert.llama import Llama

    monkeypatch.setattr(Llama, "ordered", lambda self, name, num_heads: self.weights(name))
    store.pull(str(llama), name="parent")
    assert in_engine(store, home, "parent", converted(store, home, "parent", "gguf", "F32")).value > 0.1


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_tied_tables_and_other_floats_are_converted(store: Store, home: Path, tmp_path: Path, dtype: str) -> None:
    store.pull(str(write_llama(tmp_path / "tied", dtype, tie_word_embeddings=True)), name="parent")
    done = converted(store, home, "parent", "gguf")
    assert done.row.manifest.facts["quantisation"] == "F16"
    assert in_engine(store, home, "parent", done).value < 0.05


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_type": "gpt_neox"}, "Llama family"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rotary embedding"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "activation"),
        ({"num_attention_heads": None}, "lacks a size"),
        ({"vocab_size": 7}, "token number"),
    ],
)
def test_what_is_not_known_to_be_right_is_refused(
    store: Store, home: Path, llama: Path, change: dict[str, Any], why: str
) -> None:
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps({**config, **change}))
    store.pull(str(llama), name="parent")
    with pytest.raises(CatenaError, match=why):
        converted(store, home, "parent", "gguf")
    assert [row.name for row in store.models()] == ["parent"]
    assert list((home / "run").iterdir()) == []


def test_a_vocabulary_that_splits_in_an_unknown_way_is_refused(store: Store, home: Path, llama: Path) -> None:
    tokenizer = json.loads((llama / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (llama / "tokenizer.json").write_text(json.dumps(tokenizer))
    store.pull(str(llama), name="parent")
    with pytest.raises(UnsupportedError, match="splits text"):
        converted(store, home, "parent", "gguf")


@pytest.mark.parametrize(("form", "limit"), [("Q8_0", 0.02), ("Q4_0", 0.2), ("BF16", 0.01)])
def test_a_gguf_in_another_form_is_near_its_parent(
    store: Store, home: Path, llama: Path, form: str, limit: float
) -> None:
    store.pull(str(llama), name="origin")
    converted(store, home, "origin", "gguf", "F32", "parent")
    done = converted(store, home, "parent", "gguf", form)
    assert 0 < done.made.measures[0].value < limit
    assert done.row.manifest.facts["quantisation"] == form
    assert str(done.row.manifest.facts["agreement"]).startswith("relative error of the weights")
    measure = in_engine(store, home, "parent", done)
    assert measure.is_good
    first, second = (header.read(store.resolve(name).path("weights")) for name in ("parent", "child"))
    own = {"general.file_type"}
    assert {key: value for key, value in first.metadata.items() if key not in own} == {
        key: value for key, value in second.metadata.items() if key not in own
    }
    kinds = {tensor.name: tensor.kind for tensor in second.tensors}
    assert kinds["output_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == ("BF16" if form == "BF16" else "Q8_0")


def test_a_gguf_in_parts_is_served_as_one_and_joined_by_a_conversion(
    store: Store, home: Path, llama: Path, tmp_path: Path
) -> None:
    store.pull(str(llama), name="origin")
    converted(store, home, "origin", "gguf", "F32", "whole")
    split(store.resolve("whole").path("weights"), tmp_path / "parts")
    parts = store.pull(str(tmp_path / "parts"), name="parts").row
    assert sum(entry.role == "weights" for entry in parts.manifest.files) > 2
    measure = compared(store.resolve("parts"), store.resolve("whole"), (), RUN, home)
    assert measure is not None and measure.value < 1e-3
    done = converted(store, home, "parts", "gguf", "F32")
    assert [entry.role for entry in done.row.manifest.files] == ["weights"]
    assert done.made.measures[0].value == 0


def split(path: Path, folder: Path) -> None:
    """Write a GGUF as several parts, as the gguf package does."""
    import gguf

    folder.mkdir()
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=7)
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """An ONNX model of two layers of weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(5)
    weights = [draw.standard_normal(shape).astype(np.float32) for shape in ((16, 32), (32, 8))]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])],
        [numpy_helper.from_array(array, f"w{number}") for number, array in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "two.onnx")
    return tmp_path / "two.onnx"


def test_an_onnx_model_of_eight_bits_gives_nearly_what_its_parent_gives(
    store: Store, home: Path, network: Path
) -> None:
    parent = store.pull(str(network), name="parent").row
    done = converted(store, home, "parent", "onnx")
    (measure,) = done.made.measures
    assert 0.99 < measure.value < 1
    assert done.row.manifest.facts["quantisation"] in ("int8", "uint8")
    assert done.row.manifest.provenance.parents == (parent.digest,)
    assert done.row.manifest.signature == parent.manifest.signature
    with pytest.raises(UnsupportedError, match="8 bits already"):
        converted(store, home, "child", "onnx", name="grandchild")


@pytest.mark.parametrize("form", ["F16", "F32"])
def test_an_openvino_model_gives_what_its_parent_gives(store: Store, home: Path, network: Path, form: str) -> None:
    parent = store.pull(str(network), name="parent").row
    done = converted(store, home, "parent", "openvino", form)
    assert done.made.measures[0].value > (0.99999 if form == "F16" else 0.9999999)
    manifest = done.row.manifest
    assert manifest.signature == parent.manifest.signature
    assert (manifest.format, manifest.facts["parameters"]) == ("openvino", 16 * 32 + 32 * 8)
    import openvino

    compiled = openvino.Core().compile_model(str(store.resolve("child").path("weights")), "CPU")
    assert compiled(np.ones((3, 16), np.float32))[0].shape == (3, 8)


def test_external_data_is_found_by_the_library_where_the_store_lays_it(
    store: Store, tmp_path: Path, network: Path
) -> None:
    import onnx
    import onnxruntime

    (tmp_path / "apart").mkdir()
    onnx.save(
        onnx.load(network),
        tmp_path / "apart" / "model.onnx",
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=0,
    )
    row = store.pull(str(tmp_path / "apart"), name="apart").row
    assert {entry.name for entry in row.manifest.files} == {"model.onnx", "model.onnx_data"}
    given = {"x": np.ones((2, 16), np.float32)}
    outputs = [
        onnxruntime.InferenceSession(str(path)).run(None, given)[0]
        for path in (network, store.resolve("apart").path("weights"))
    ]
    assert np.array_equal(*outputs)


def test_a_child_that_is_not_near_its_parent_is_not_kept(
    store: Store, home: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catena.build.convert.onnx_to_onnx.NEAR_COSINE", 0.9999999)
    store.pull(str(network), name="parent")
    with pytest.raises(EngineError, match="not near"):
        converted(store, home, "parent", "onnx")
    assert store.names() == ["parent"]


def test_a_conversion_that_nobody_wrote_is_refused_with_those_that_there_are(
    store: Store, home: Path, network: Path
) -> None:
    store.pull(str(network), name="parent")
    with pytest.raises(UnsupportedError) as caught:
        converted(store, home, "parent", "gguf")
    assert "onnx, openvino" in caught.value.hint
    with pytest.raises(NotFoundError) as unknown:
        converted(store, home, "parent", "onnx", "Q9")
    assert "int8" in unknown.value.hint


def test_a_missing_library_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['gguf'] = None\n"
        "from catena.build import convert\n"
        "from catena.core.errors import MissingExtraError\n"
        "try: convert.find('gguf', 'gguf')\n"
        "except MissingExtraError as error: print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "pip install 'catena[convert]'"


def test_measures_tell_near_from_far() -> None:
    near = [{b"a": -0.1, b"b": -2.0}, {b"c": -0.5}]
    assert measured(near, near) == Measure("difference of log probability (2 of 2 likeliest tokens equal)", 0.0, True)
    assert not measured(near, [{b"x": -0.1}, {b"y": -1.0}]).is_good
    assert not measured(near, [{}, {}]).is_good
    assert not measured([{b"a": -9.0}], [{b"a": -0.1}]).is_good


def test_made_carries_what_the_parent_would_say() -> None:
    made = Made("x 1", (), (Expected((1, 2), {b"a": -1.0}),))
    assert made.expected[0].tokens == (1, 2)
