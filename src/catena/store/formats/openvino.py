"""OpenVINO IR: ports and constants of a model, read from its XML piece by piece, checked against the .bin.

Source of the layout: docs.openvino.ai, "OpenVINO IR format", version 11, and files that openvino 2026.4 writes. A
document type or an entity is refused: the format has none, and they can make a reader open files or fill memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

from msgspec import Struct

from catena.core.errors import FormatError
from catena.core.manifest import Signature, Task, TensorSpec
from catena.store import beside
from catena.store.formats import Facts, Find, Value, check_size, path_of, plain_text
from catena.store.window import PIECE_BYTES, opened

COMPANIONS: Mapping[str, str] = {
    "config.json": "config",
    "generation_config.json": "generation",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer_config",
    "special_tokens_map.json": "special_tokens",
    "chat_template.jinja": "template",
    "openvino_tokenizer.xml": "ov_tokenizer",
    "openvino_tokenizer.bin": "ov_tokenizer_weights",
    "openvino_detokenizer.xml": "ov_detokenizer",
    "openvino_detokenizer.bin": "ov_detokenizer_weights",
    "1_Pooling/config.json": "pooling",
}
# The weights of an .xml are looked for in the .bin of the same name beside it.
NEEDS_FOLDER = True
MAX_XML_BYTES = 512 << 20
MAX_ELEMENTS = 4_000_000
MAX_DEPTH = 64
MAX_TEXT_CHARS = 1024
MAX_PORTS = 4096
MAX_DIMENSIONS = 64
MAX_NUMBER = 1 << 62
# element_type of a constant → name in manifests, bits per element (0: of no fixed size).
DTYPES = {
    "boolean": ("bool", 8),
    "bf16": ("bfloat16", 16),
    "f16": ("float16", 16),
    "f32": ("float32", 32),
    "f64": ("float64", 64),
    "f4e2m1": ("float4e2m1", 4),
    "f8e4m3": ("float8e4m3", 8),
    "f8e5m2": ("float8e5m2", 8),
    "f8e8m0": ("float8e8m0", 8),
    "i4": ("int4", 4),
    "i8": ("int8", 8),
    "i16": ("int16", 16),
    "i32": ("int32", 32),
    "i64": ("int64", 64),
    "nf4": ("nf4", 4),
    "u1": ("uint1", 1),
    "u2": ("uint2", 2),
    "u3": ("uint3", 0),
    "u4": ("uint4", 4),
    "u6": ("uint6", 0),
    "u8": ("uint8", 8),
    "u16": ("uint16", 16),
    "u32": ("uint32", 32),
    "u64": ("uint64", 64),
    "string": ("string", 0),
}


class Graph(Struct, frozen=True):
    """What is known of a model without its weights; `needed_bytes` is what the file of weights must have at least."""

    version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    num_layers: int
    num_elements: dict[str, int]
    num_bytes: dict[str, int]
    needed_bytes: int


def matches(head: bytes, name: str) -> bool:
    """IR files are XML: they are known by name; what is not one is refused by `read`."""
    return name.lower().endswith(".xml")


def read(path: Path) -> Graph:
    """The graph of the .xml at `path`. Raises FormatError. Memory is bounded by one piece and MAX_PORTS."""
    reading = _Reading()
    with opened(path) as window:
        if window.size > MAX_XML_BYTES:
            raise FormatError("the OpenVINO model's XML is too large")
        try:
            for offset in range(0, window.size, PIECE_BYTES):
                reading.parser.Parse(window.read(offset, min(PIECE_BYTES, window.size - offset)), False)
            reading.parser.Parse(b"", True)
        except expat.ExpatError:
            raise FormatError("the OpenVINO model's XML is not well-formed", hint="fetch it again") from None
    return reading.graph()


def parts(name: str, find: Find) -> tuple[str, ...]:
    """The .bin of the same name, if the model has constants. Raises FormatError."""
    return (f"{name[:-4]}.bin",) if read(path_of(name, find)).needed_bytes else ()


def describe(paths: Mapping[str, Path]) -> Facts:
    """What graph and configuration say in the manifest's words. Raises FormatError."""
    graph = read(paths["weights"])
    weights = [role.removeprefix("weights/") for role in paths if role.startswith("weights/")]
    if graph.needed_bytes:
        if len(weights) != 1:
            raise FormatError("the OpenVINO model's file of weights is missing", hint="the .bin lies beside the .xml")
        check_size(paths, weights[0], graph.needed_bytes)
    config = beside.json_object(paths["config"]) if "config" in paths else {}
    task = _task(graph, "tokenizer" in paths or "ov_tokenizer" in paths)
    values: dict[str, Value] = {
        "architecture": plain_text(beside.value(config, "model_type", str, "")),
        "parameters": sum(graph.num_elements.values()),
        "quantisation": max(graph.num_bytes, key=lambda name: graph.num_bytes[name], default=""),
        "nodes": graph.num_layers,
    }
    if task != "predict":
        values["context_tokens"] = beside.count(config, "max_position_embeddings")
        values["embedding_width"] = beside.count(config, "hidden_size")
    return Facts(
        task=task,
        signature=Signature(graph.inputs, graph.outputs),
        values={key: value for key, value in values.items() if value},
        chat_template=beside.chat_template(paths) if task == "generate" else None,
    )


def _task(graph: Graph, has_tokenizer: bool) -> Task:
    inputs, outputs = {port.name for port in graph.inputs}, {port.name: port for port in graph.outputs}
    if "input_ids" not in inputs or not has_tokenizer:
        return "predict"
    if "beam_idx" in inputs or "position_ids" in inputs:
        return "generate"
    if "last_hidden_state" in outputs:
        return "embed"
    logits = outputs.get("logits")
    if logits is not None and len(logits.shape) == 2:
        return "rerank" if logits.shape[1] == 1 else "classify"
    return "predict"


class _Reading:
    """One pass over the XML: layers are looked at as they end, and forgotten."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self._path: list[str] = []
        self._num_elements = self._num_layers = 0
        self._version = 0
        self._layer: dict[str, str] = {}
        self._data: dict[str, str] = {}
        self._port: dict[str, str] = {}
        self._shape: list[int] = []
        self._text = ""
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []
        self._elements, self._bytes = Counter[str](), Counter[str]()
        self._needed_bytes = 0

    def graph(self) -> Graph:
        if not 10 <= self._version < 1000 or not self._num_layers:
            raise FormatError("this is not an OpenVINO model: it has no layers, or a version that is not known")
        for ports in (self._inputs, self._outputs):
            if len({port.name for port in ports}) < len(ports):
                raise FormatError("the OpenVINO model has two inputs or outputs of one name")
        return Graph(
            self._version,
            tuple(self._inputs),
            tuple(self._outputs),
            self._num_layers,
            dict(self._elements),
            dict(self._bytes),
            self._needed_bytes,
        )

    def _refuse(self, *_: object) -> None:
        raise FormatError("the OpenVINO model's XML has a document type or an entity, which the format has not")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._num_elements += 1
        if self._num_elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise FormatError("the OpenVINO model's XML has too many elements, or is nested too deeply")
        if not self._path:
            if name != "net":
                raise FormatError("this XML is not an OpenVINO model")
            self._version = _number(attributes.get("version", ""))
        self._path.append(name)
        self._text = ""
        if name == "layer":
            self._layer, self._data, self._port, self._shape = attributes, {}, {}, []
            self._num_layers += 1
        elif name == "data" and self._path[-2] == "layer":
            self._data = attributes
        elif name == "port":
            self._port, self._shape = attributes, []

    def _characters(self, text: str) -> None:
        if self._path[-1] == "dim":
            self._text += text[: MAX_TEXT_CHARS - len(self._text)]

    def _end(self, name: str) -> None:
        self._path.pop()
        if name == "dim":
            self._shape.append(_number(self._text.strip()))
            if len(self._shape) > MAX_DIMENSIONS:
                raise FormatError("a port of the OpenVINO model has too many dimensions")
        elif name == "layer":
            self._close_layer(self._layer.get("type", ""), is_inner="layer" in self._path)
            self._layer = {}

    def _close_layer(self, kind: str, *, is_inner: bool) -> None:
        """Note what a layer is; of those inside another (the body of a loop) only constants count."""
        if kind == "Const":
            self._constant()
        elif is_inner:
            return
        elif kind == "Parameter":
            names = self._port.get("names") or self._layer.get("name", "")
            self._inputs.append(self._spec(names, self._data.get("element_type", "")))
        elif kind == "Result":
            names = self._layer.get("output_names") or self._layer.get("name", "")
            self._outputs.append(self._spec(names, self._port.get("precision", "").lower()))
        if len(self._inputs) + len(self._outputs) > MAX_PORTS:
            raise FormatError("the OpenVINO model has too many inputs or outputs")

    def _spec(self, names: str, element_type: str) -> TensorSpec:
        """A port under the first of its names; a dimension without a fixed length is -1."""
        name = names.partition(",")[0]
        if not name or len(name) > MAX_TEXT_CHARS or not name.isprintable():
            raise FormatError("the OpenVINO model has an input or output without a usable name")
        known = {"fp32": "f32", "fp16": "f16", "fp64": "f64", "bool": "boolean"}
        dtype = DTYPES.get(known.get(element_type, element_type), ("unknown", 0))[0]
        return TensorSpec(name, dtype, tuple(self._shape))

    def _constant(self) -> None:
        """Count one constant; its place in the file of weights is checked against its shape."""
        name, bits = DTYPES.get(self._data.get("element_type", ""), ("", 0))
        lengths = [_number(each.strip()) for each in self._data.get("shape", "").split(",") if each.strip()]
        offset, size = _number(self._data.get("offset", "")), _number(self._data.get("size", ""))
        if not name or len(lengths) > MAX_DIMENSIONS or min((*lengths, offset, size)) < 0:
            raise FormatError("a constant of the OpenVINO model has an unknown type, or an impossible place")
        num_elements = math.prod(lengths)
        is_wrong = size != (num_elements * bits + 7) // 8 if bits else num_elements > 8 * size
        if is_wrong or offset + size > MAX_NUMBER:
            raise FormatError("a constant of the OpenVINO model has not the bytes that its shape needs")
        self._elements[name] += num_elements
        self._bytes[name] += size
        self._needed_bytes = max(self._needed_bytes, offset + size)


def _number(text: str) -> int:
    """A decimal number; -1 for any other text, and for lengths that vary (-1, ?)."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
