"""safetensors: headers, index and configuration of a model folder, each tensor checked against its file.

Source of the layout: https://github.com/huggingface/safetensors#format; data types: safetensors/src/tensor.rs 0.8.
Of the folder: what `save_pretrained` of transformers, peft and sentence-transformers write.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from catena.core.errors import FormatError, UnsupportedError
from catena.core.manifest import Signature, Task, TensorSpec
from catena.store import beside
from catena.store.formats import Facts, Find, Value, plain_text
from catena.store.window import opened

INDEX = "model.safetensors.index.json"
COMPANIONS: Mapping[str, str] = {
    INDEX: "index",
    "config.json": "config",
    "generation_config.json": "generation",
    "adapter_config.json": "adapter",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer_config",
    "special_tokens_map.json": "special_tokens",
    "added_tokens.json": "added_tokens",
    "tokenizer.model": "sentencepiece",
    "vocab.json": "vocabulary",
    "vocab.txt": "word_pieces",
    "merges.txt": "merges",
    "chat_template.jinja": "template",
    "preprocessor_config.json": "preprocessor",
    "processor_config.json": "processor",
    "modules.json": "modules",
    "sentence_bert_config.json": "sentences",
    "1_Pooling/config.json": "pooling",
}
# transformers and its like load a folder.
NEEDS_FOLDER = True
MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 131_072
MAX_DIMENSIONS = 16
MAX_NAME_CHARS = 1024
MAX_LENGTH = 1 << 48
MAX_PARTS = 4096
BITS = {
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8},
    **{"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32},
    **{"F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64},
}
# The end of a class name in `architectures` of config.json → what such a model does.
TASKS: Mapping[str, Task] = {
    "ForCausalLM": "generate",
    "LMHeadModel": "generate",
    "ForImageTextToText": "generate",
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "classify",
    "ForMaskedLM": "embed",
    "ForSpeechSeq2Seq": "transcribe",
    "ForCTC": "transcribe",
    "WhisperForConditionalGeneration": "transcribe",
    "ForConditionalGeneration": "generate",
    "Model": "embed",
}
POOLING = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_TOKENIZERS = frozenset({"tokenizer", "sentencepiece", "vocabulary", "word_pieces"})
_ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Tensor(Struct, frozen=True):
    """One tensor: its data type, shape in elements (last dimension varies fastest), and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


class _Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor as the header has it."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class Header(Struct, frozen=True):
    """All of a header: what it says of the file, and the tensors by name."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]


def matches(head: bytes, name: str) -> bool:
    """safetensors files have no magic: they are known by name; what is not one is refused by `read`."""
    return name.lower().endswith(".safetensors")


def read(path: Path) -> Header:
    """The header of the file at `path`, whose tensors fill the rest of it without gap or overlap.

    Memory and time are bounded by MAX_HEADER_BYTES and MAX_TENSORS. Raises FormatError.
    """
    with opened(path) as window:
        length = int.from_bytes(window.read(0, 8), "little")
        if length > MAX_HEADER_BYTES:
            raise FormatError(f"the safetensors header claims {length} bytes")
        data = window.read(8, length)
        size = window.size
    if data[:1] != b"{":
        raise FormatError("this is not a safetensors file: its header is no JSON object")
    try:
        claims = msgspec.json.decode(data, type=beside.Object)
        metadata = msgspec.json.decode(claims.pop("__metadata__", msgspec.Raw(b"{}")), type=dict[str, str])
        if len(claims) > MAX_TENSORS:
            raise FormatError(f"the safetensors header has {len(claims)} tensors")
        decoder = msgspec.json.Decoder(_Claim)
        tensors = {name: _tensor(name, decoder.decode(claim), 8 + length) for name, claim in claims.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FormatError("the safetensors header is not what the format lays down") from None
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda each: (each.offset, each.size_bytes)):
        if tensor.offset != end:
            raise FormatError("the tensors of the safetensors file overlap, or leave gaps")
        end += tensor.size_bytes
    if end != size:
        raise FormatError("the safetensors file has not the size that its header needs", hint="fetch it again")
    return Header(metadata, tensors)


def parts(name: str, find: Find) -> tuple[str, ...]:
    """The other files that the index beside the first one names. Raises FormatError."""
    index = find(INDEX)
    files = sorted(set(_weight_map(index).values())) if index else []
    if name in files:
        return tuple(file for file in files if file != name)
    if _PART.fullmatch(name):
        raise FormatError(f"this is one of several parts, but no {INDEX} that names it is beside it")
    return ()


def describe(paths: Mapping[str, Path]) -> Facts:
    """What headers and configuration say in the manifest's words. Raises FormatError, UnsupportedError."""
    tensors = _joined(paths)
    elements, sizes = Counter[str](), Counter[str]()
    for tensor in tensors.values():
        elements[tensor.dtype] += math.prod(tensor.shape)
        sizes[tensor.dtype] += tensor.size_bytes
    dtype = max(sizes, key=lambda name: sizes[name], default="")
    if "adapter" in paths:
        return _adapter(beside.json_object(paths["adapter"]), sum(elements.values()), dtype)
    if "config" not in paths:
        raise UnsupportedError(
            "this safetensors file says nothing of what model it belongs to", hint="config.json must lie beside it"
        )
    config = beside.json_object(paths["config"])
    task = _task(config, paths)
    text = beside.value(config, "text_config", beside.Object, config)
    quantisation = beside.value(config, "quantization_config", beside.Object, {})
    values: dict[str, Value] = {
        "architecture": _architecture(config),
        "quantisation": plain_text(beside.value(quantisation, "quant_method", str, "")) or dtype,
        "parameters": sum(elements.values()),
        "context_tokens": beside.count(text, "max_position_embeddings"),
        "embedding_width": beside.count(text, "hidden_size"),
        "layers": beside.count(text, "num_hidden_layers"),
        "vocabulary": beside.count(text, "vocab_size"),
        "pooling": beside.pooling(paths, POOLING) if task == "embed" else "",
        # Such a model is made of code that came with it; nothing here runs that.
        "needs_code": "auto_map" in config,
    }
    return Facts(
        task=task,
        signature=_signature(task, values),
        values={key: value for key, value in values.items() if value},
        chat_template=beside.chat_template(paths) if task == "generate" else None,
    )


def _tensor(name: str, claim: _Claim, start: int) -> Tensor:
    shape, (begin, end) = tuple(claim.shape), claim.data_offsets
    bits = BITS.get(claim.dtype)
    if not name or len(name) > MAX_NAME_CHARS or bits is None or len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"tensor {plain_text(name, 80)!r} has an unknown type, no name, or too many dimensions")
    if any(not 0 <= length < MAX_LENGTH for length in shape) or not 0 <= begin <= end < 1 << 62:
        raise FormatError(f"tensor {plain_text(name, 80)!r} has a length or place that cannot be")
    if math.prod(shape) * bits != 8 * (end - begin):
        raise FormatError(f"tensor {plain_text(name, 80)!r} has not the bytes that its shape needs")
    return Tensor(claim.dtype, shape, start + begin, end - begin)


def _joined(paths: Mapping[str, Path]) -> dict[str, Tensor]:
    """The tensors of all files, by name, as the index says. Raises FormatError."""
    tensors = read(paths["weights"]).tensors
    others = {role.removeprefix("weights/"): path for role, path in paths.items() if role.startswith("weights/")}
    if not others:
        return tensors
    if "index" not in paths:
        raise FormatError(f"a model of several files needs {INDEX}")
    weight_map = _weight_map(paths["index"])
    first = set(weight_map.values()) - set(others)
    if len(first) != 1 or not set(others) <= set(weight_map.values()):
        raise FormatError(f"{INDEX} names other files than those that are here")
    found = {name: first_name for first_name in first for name in tensors}
    for file, path in others.items():
        more = read(path).tensors
        found |= dict.fromkeys(more, file)
        tensors = {**tensors, **more}
    if found != weight_map:
        raise FormatError(f"the files do not hold the tensors that {INDEX} places in them")
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    """The index: in which file each tensor is. Raises FormatError."""
    index = beside.json_object(path, max_bytes=MAX_HEADER_BYTES)
    found = beside.value(index, "weight_map", dict[str, str], {})
    files = set(found.values())
    if not found or len(found) > MAX_TENSORS or len(files) > MAX_PARTS:
        raise FormatError(f"{INDEX} has no weight_map, or one that is too large")
    if any("/" in name or not beside.is_within(name) or not matches(b"", name) for name in files):
        raise FormatError(f"{INDEX} names a file outside the model's folder")
    return found


def _architecture(config: beside.Object) -> str:
    name = beside.value(config, "model_type", str, "")
    if name and not _ARCHITECTURE.fullmatch(name):
        raise FormatError("config.json has a model_type that is none")
    return name


def _task(config: beside.Object, paths: Mapping[str, Path]) -> Task:
    names = beside.value(config, "architectures", list[str], [])
    name = names[0] if names else ""
    known: list[Task] = [task for end, task in TASKS.items() if name.endswith(end)]
    task: Task = known[0] if known else "predict"
    if task == "embed" and not _TOKENIZERS & set(paths):
        return "predict"
    # A classifier with one label gives a score (transformers, PretrainedConfig.num_labels).
    if name.endswith("ForSequenceClassification") and len(beside.value(config, "id2label", dict[str, str], {})) == 1:
        return "rerank"
    return task


def _adapter(config: beside.Object, num_parameters: int, dtype: str) -> Facts:
    """A LoRA as peft saves it."""
    if beside.value(config, "peft_type", str, "").upper() != "LORA":
        raise UnsupportedError("this adapter is not a LoRA")
    values: dict[str, Value] = {
        "parameters": num_parameters,
        "quantisation": dtype,
        "rank": beside.count(config, "r"),
        "alpha": float(beside.count(config, "lora_alpha")),
        "title": plain_text(beside.value(config, "base_model_name_or_path", str, "")),
    }
    return Facts("adapter", values={key: value for key, value in values.items() if value})


def _signature(task: Task, values: Mapping[str, Value]) -> Signature:
    tokens = TensorSpec("tokens", "int64", (-1,), "token")
    if task == "generate":
        return Signature((tokens,), (TensorSpec("logits", "float32", (-1, int(values["vocabulary"]) or -1)),))
    if task == "embed":
        return Signature((tokens,), (TensorSpec("embedding", "float32", (int(values["embedding_width"]) or -1,)),))
    return Signature()
