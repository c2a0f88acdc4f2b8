"""Models of several files: parts of GGUF and safetensors, external data of ONNX, OpenVINO IR."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import FormatError, IntegrityError, NotFoundError, UnsupportedError
from catena.store import Store
from catena.store.formats import openvino, safetensors

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 512,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "vocab_size": 16,
}
WEIGHTS: Tensors = {
    "model.embed_tokens.weight": ("F32", (16, 8), os.urandom(512)),
    "model.norm.weight": ("F16", (8,), os.urandom(16)),
}


def packed(tensors: Tensors, **metadata: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + body


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder as transformers saves it."""
    folder = tmp_path / "Tiny-Llama"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(packed(WEIGHTS, format="pt"))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return folder


@pytest.fixture
def sharded(llama: Path) -> Path:
    """The same in two files."""
    (llama / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for file, tensor in zip(names, WEIGHTS, strict=True):
        (llama / file).write_bytes(packed({tensor: WEIGHTS[tensor]}))
    index = {"metadata": {"total_size": 528}, "weight_map": dict(zip(WEIGHTS, names, strict=True))}
    (llama / safetensors.INDEX).write_text(json.dumps(index))
    return llama


@pytest.fixture
def split(tmp_path: Path, gguf: Any) -> Path:
    """A GGUF in three parts, the first of which has no tensors, as llama.cpp and its Python package split them."""
    folder = tmp_path / "split"
    folder.mkdir()
    for number in range(3):
        entries = [("split.no", 2, number), ("split.count", 2, 3), ("split.tensors.count", 5, 2)]
        tensors = ((f"blk.{number}.w", (64, 4), 8, 272),) if number else ()
        (folder / f"m-0000{number + 1}-of-00003.gguf").write_bytes(
            gguf.file((*(gguf.TINY if not number else ()), *entries), tensors)
        )
    return folder


def external(onnx: Any, location: str = "weights/model.data", length: int = 128) -> bytes:
    """A model whose weight of 4 x 8 lies in another file, from byte 64 on."""
    entries = {"location": location, "offset": "64", "length": str(length)}
    tensor = b"".join(onnx.field(1, size) for size in (4, 8)) + onnx.field(2, 1) + onnx.field(8, "w")
    for key, value in entries.items():
        tensor += onnx.field(13, onnx.field(1, key) + onnx.field(2, value))
    return onnx.file(onnx.graph(weights=[tensor + onnx.field(14, 1)]))


@pytest.fixture
def outside(tmp_path: Path, onnx: Any) -> Path:
    """An ONNX encoder with external data in a folder below it."""
    folder = tmp_path / "external"
    (folder / "weights").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(external(onnx))
    (folder / "weights" / "model.data").write_bytes(os.urandom(192))
    (folder / "tokenizer.json").write_text("{}")
    return folder


IR = """<?xml version="1.0"?>
<net name="tiny" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="?,4" element_type="f32"/>
<output><port id="0" precision="FP32" names="x,x:0"><dim>-1</dim><dim>4</dim></port></output></layer>
<layer id="1" name="w" type="Const" version="opset1"><data element_type="f32" shape="4, 3" offset="16" size="48"/>
<output><port id="0" precision="FP32"><dim>4</dim><dim>3</dim></port></output></layer>
<layer id="2" name="loop" type="TensorIterator" version="opset1"><body><layers>
<layer id="0" name="in" type="Parameter" version="opset1"><data shape="1" element_type="f32"/></layer>
<layer id="1" name="c" type="Const" version="opset1"><data element_type="i8" shape="16" offset="0" size="16"/></layer>
</layers></body></layer>
<layer id="3" name="r" type="Result" version="opset1" output_names="y">
<input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim></port></input></layer>
</layers><edges/></net>"""


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    folder = tmp_path / "ir"
    folder.mkdir()
    (folder / "openvino_model.xml").write_text(IR)
    (folder / "openvino_model.bin").write_bytes(os.urandom(64))
    return folder


def test_a_safetensors_folder_becomes_a_model_with_its_facts(store: Store, llama: Path) -> None:
    row = store.pull(str(llama)).row
    manifest = row.manifest
    assert (row.name, manifest.task, manifest.format) == ("tiny-llama", "generate", "safetensors")
    assert {entry.role for entry in manifest.files} == {"weights", "config", "tokenizer", "tokenizer_config"}
    assert manifest.facts["parameters"] == 136
    assert (manifest.facts["context_tokens"], manifest.facts["quantisation"]) == (512, "F32")
    assert manifest.signature.outputs[0].shape == (-1, 16)
    assert store.chat_template(row.name) == "{{ messages }}"


def test_files_that_are_looked_for_beside_one_another_lie_so_and_take_no_new_space(store: Store, llama: Path) -> None:
    store.pull(str(llama), name="m")
    model = store.resolve("m")
    folder = model.path("weights").parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in llama.iterdir())
    for path in folder.iterdir():
        assert path.samefile(llama / path.name), "another copy"


def test_a_link_that_was_bent_is_laid_anew(store: Store, llama: Path) -> None:
    store.pull(str(llama), name="m")
    config = store.resolve("m").path("config")
    config.unlink()
    config.symlink_to("/etc/hostname")
    assert json.loads(store.resolve("m").path("config").read_text())["model_type"] == "llama"
    assert not config.is_symlink()


def test_the_folder_of_a_removed_model_goes_with_its_files(store: Store, llama: Path) -> None:
    store.pull(str(llama), name="m")
    folder = store.resolve("m").path("weights").parent
    store.collect()
    assert folder.is_dir()
    store.remove("m")
    store.collect(is_dry=True)
    assert folder.is_dir()
    assert store.collect().num_files == 4
    assert not folder.exists()


@pytest.mark.parametrize("named", ["", "model-00002-of-00002.safetensors"])
def test_a_sharded_model_is_whole_whichever_way_it_is_named(store: Store, sharded: Path, named: str) -> None:
    row = store.pull(str(sharded / named), name="m").row
    weights = [entry.name for entry in row.manifest.files if entry.role == "weights"]
    assert weights == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert row.manifest.facts["parameters"] == 136


def test_a_shard_that_is_missing_or_another_is_refused(store: Store, sharded: Path) -> None:
    second = sharded / "model-00002-of-00002.safetensors"
    second.write_bytes(packed({"other": WEIGHTS["model.norm.weight"]}))
    with pytest.raises(FormatError, match="do not hold the tensors"):
        store.pull(str(sharded))
    second.unlink()
    with pytest.raises(FormatError, match="missing"):
        store.pull(str(sharded))


@pytest.mark.parametrize("file", ["../../secret.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.pt", ""])
def test_an_index_that_leads_elsewhere_is_refused(store: Store, sharded: Path, file: str) -> None:
    weight_map = {"model.norm.weight": file, "model.embed_tokens.weight": "model-00001-of-00002.safetensors"}
    (sharded / safetensors.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(FormatError):
        store.pull(str(sharded))
    assert store.models() == []


def test_safetensors_without_configuration_say_nothing_of_their_model(store: Store, llama: Path) -> None:
    (llama / "config.json").unlink()
    with pytest.raises(UnsupportedError, match=r"model\.safetensors"):
        store.pull(str(llama))


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}, "rerank"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x", "1": "y"}}, "classify"),
        ({"architectures": ["BertModel"]}, "embed"),
        ({"architectures": ["WhisperForConditionalGeneration"]}, "transcribe"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "generate"),
        ({"architectures": ["ResNetForImageClassification"]}, "predict"),
        ({"architectures": "what"}, "predict"),
    ],
)
def test_the_task_follows_from_the_architecture(store: Store, llama: Path, config: dict[str, Any], task: str) -> None:
    (llama / "config.json").write_text(json.dumps({"model_type": "any", **config}))
    assert store.pull(str(llama)).row.manifest.task == task


def test_a_lora_of_safetensors_is_an_adapter(store: Store, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(packed(WEIGHTS))
    (tmp_path / "lora" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')
    manifest = store.pull(str(tmp_path / "lora")).row.manifest
    assert (manifest.task, manifest.facts["rank"], manifest.facts["alpha"]) == ("adapter", 8, 16.0)


def test_a_model_that_brings_code_says_so(store: Store, llama: Path) -> None:
    (llama / "config.json").write_text(json.dumps({**CONFIG, "auto_map": {"AutoModel": "modeling.Model"}}))
    assert store.pull(str(llama)).row.manifest.facts["needs_code"] is True


WRONG: dict[str, bytes] = {
    "nothing": b"",
    "cut in the length": b"\x10\x00\x00",
    "a header of 2**63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{,,}",
    "a list": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 60_000) + b'{"a":' * 12_000,
    "a gap": packed(WEIGHTS).replace(b"[512, 528]", b"[511, 527]"),
    "an overlap": packed(WEIGHTS).replace(b"[512, 528]", b"[500, 516]"),
    "bytes after the end": packed(WEIGHTS) + b"x",
    "bytes missing": packed(WEIGHTS)[:-1],
    "another shape": packed(WEIGHTS).replace(b"[16, 8]", b"[16, 9]"),
    "a negative length": packed({"w": ("F32", (-1, -2), bytes(8))}),
    "2**80 elements": packed({"w": ("F32", (1 << 40, 1 << 40), bytes(8))}),
    "an unknown type": packed({"w": ("Q4", (2,), bytes(8))}),
    "17 dimensions": packed({"w": ("F32", (1,) * 17, bytes(4))}),
    "an end before its beginning": packed(WEIGHTS).replace(b"[512, 528]", b"[528, 512]"),
    "an offset of 2**64": packed(WEIGHTS).replace(b"528]", b"18446744073709551616]"),
    "metadata that is no text": packed({}).replace(b"{}", b'{"__metadata__": {"a": 1}}'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_safetensors_header_is_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(WRONG[case])
    with pytest.raises(FormatError):
        safetensors.read(path)


def test_a_split_gguf_is_one_model_with_the_tensors_of_all_parts(store: Store, split: Path) -> None:
    row = store.pull(str(split / "m-00002-of-00003.gguf")).row
    assert (row.name, row.manifest.task, row.manifest.facts["parameters"]) == ("m", "generate", 512)
    paths = [store.resolve("m").paths[entry.name] for entry in row.manifest.files]
    assert [path.name for path in paths] == [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert len({path.parent for path in paths}) == 1
    assert store.pull(str(split / "m-00002-of-00003.gguf")).is_new is False


@pytest.mark.parametrize(
    ("number", "entries"),
    [
        (2, [("split.no", 2, 1), ("split.count", 2, 3)]),
        (1, [("split.no", 2, 1), ("split.count", 2, 2)]),
        (0, [("split.no", 2, 0), ("split.count", 2, 3), ("split.tensors.count", 5, 9)]),
        (0, [("split.no", 2, 0), ("split.count", 5, -3)]),
        (0, [("split.no", 2, 0), ("split.count", 10, 1 << 60)]),
        (0, [("split.no", 2, 0), ("split.count", 8, "3")]),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    store: Store, split: Path, gguf: Any, number: int, entries: list[Any]
) -> None:
    tensors = ((f"blk.{number}.w", (64, 4), 8, 272),) if number else ()
    (split / f"m-0000{number + 1}-of-00003.gguf").write_bytes(
        gguf.file((*(gguf.TINY if not number else ()), *entries), tensors)
    )
    with pytest.raises(FormatError):
        store.pull(str(split))


def test_a_part_that_is_missing_is_named(store: Store, split: Path) -> None:
    (split / "m-00003-of-00003.gguf").unlink()
    with pytest.raises(FormatError, match=r"m-00003-of-00003\.gguf is missing"):
        store.pull(str(split))
    (split / "m-00001-of-00003.gguf").unlink()
    with pytest.raises(NotFoundError):
        store.pull(str(split / "m-00002-of-00003.gguf"))


def test_external_data_of_onnx_comes_along_and_lies_beside_the_model(store: Store, outside: Path) -> None:
    row = store.pull(str(outside), name="m").row
    assert row.manifest.task == "embed"
    assert [entry.name for entry in row.manifest.files if entry.role == "weights"] == [
        "model.onnx",
        "weights/model.data",
    ]
    model = store.resolve("m")
    assert (model.path("weights").parent / "weights" / "model.data").read_bytes() == (
        outside / "weights" / "model.data"
    ).read_bytes()


@pytest.mark.parametrize("location", ["../up.data", "/etc/passwd", "a/../../b", "", "a\\b", "C:x", "x\x00y", "./x"])
def test_external_data_outside_the_folder_is_refused(store: Store, outside: Path, onnx: Any, location: str) -> None:
    (outside / "model.onnx").write_bytes(external(onnx, location))
    (outside.parent / "up.data").write_bytes(bytes(192))
    with pytest.raises(FormatError):
        store.pull(str(outside))


def test_external_data_that_is_too_short_or_missing_is_refused(store: Store, outside: Path, onnx: Any) -> None:
    (outside / "weights" / "model.data").write_bytes(bytes(191))
    with pytest.raises(FormatError, match="too short"):
        store.pull(str(outside))
    (outside / "weights" / "model.data").unlink()
    with pytest.raises(FormatError, match="missing"):
        store.pull(str(outside))
    (outside / "model.onnx").write_bytes(external(onnx, length=127))
    with pytest.raises(FormatError, match="shape"):
        store.pull(str(outside))


def test_an_openvino_model_is_read_with_its_ports_and_constants(store: Store, ir: Path) -> None:
    manifest = store.pull(str(ir)).row.manifest
    assert (manifest.name, manifest.format, manifest.task) == ("ir", "openvino", "predict")
    assert [(port.name, port.dtype, port.shape) for port in manifest.signature.inputs] == [("x", "float32", (-1, 4))]
    assert [(port.name, port.dtype, port.shape) for port in manifest.signature.outputs] == [("y", "float32", (-1, 3))]
    assert manifest.facts["parameters"] == 12 + 16
    model = store.resolve("ir")
    assert model.path("weights").with_suffix(".bin").stat().st_size == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<?xml version="1.0"?>', '<!DOCTYPE net [<!ENTITY a "aaaa">]>'),
        ('<?xml version="1.0"?>', '<!DOCTYPE net SYSTEM "file:///etc/passwd">'),
        ("<net", "<other"),
        ('version="11"', 'version="eleven"'),
        ('size="48"', 'size="47"'),
        ('offset="16"', 'offset="17"'),
        ('offset="16"', 'offset="-1"'),
        ('shape="4, 3"', f'shape="{1 << 60}, {1 << 60}"'),
        ('element_type="i8"', 'element_type="zzz"'),
        ("</net>", ""),
        ("<edges/>", "<a>" * 100),
        ('names="x,x:0"', 'names="&#10;"'),
    ],
)
def test_a_wrong_openvino_model_is_refused(store: Store, ir: Path, old: str, new: str) -> None:
    assert old in IR
    (ir / "openvino_model.xml").write_text(IR.replace(old, new))
    with pytest.raises(FormatError):
        store.pull(str(ir))


def test_an_openvino_model_is_read_in_bounded_memory(ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "MAX_ELEMENTS", 20)
    with pytest.raises(FormatError, match="too many elements"):
        openvino.read(ir / "openvino_model.xml")


def test_a_folder_of_pickles_is_refused_with_what_to_take_instead(store: Store, llama: Path) -> None:
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(UnsupportedError, match="pickle") as caught:
        store.pull(str(llama))
    assert "safetensors" in caught.value.hint


def test_an_edit_of_any_file_of_a_folder_is_noticed(store: Store, sharded: Path, change: Any) -> None:
    store.pull(str(sharded), name="m")
    model = store.resolve("m")
    change(model.path("weights").parent / "model-00002-of-00002.safetensors", 100)
    with pytest.raises(IntegrityError, match="model-00002"):
        store.resolve("m")
