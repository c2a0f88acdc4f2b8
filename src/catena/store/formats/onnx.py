"""ONNX: inputs, outputs, opset and weights of a graph, walked as protobuf within bounds, without loading anything.

Source of the field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (IR version 13); of the keys of
external data: https://onnx.ai/onnx/repo-docs/ExternalData.html. Such data is taken from the model's own folder only.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from catena.core.errors import FormatError, InputError, UnsupportedError
from catena.core.manifest import Signature, Task, TensorSpec
from catena.core.units import check_unit
from catena.store import beside
from catena.store.formats import Facts, Find, Value, check_size, path_of, plain_text
from catena.store.protobuf import MAX_TEXT_BYTES, Field, Walk
from catena.store.window import Window, opened

COMPANIONS: Mapping[str, str] = {
    "tokenizer.json": "tokenizer",
    "config.json": "config",
    "1_Pooling/config.json": "pooling",
    "signature.toml": "signature",
    "decoder_model_merged.onnx": "decoder",
    "silero_vad_16k_sequence.onnx": "vad",
}
# ONNX Runtime takes what it is given by path, and finds external data beside it.
NEEDS_FOLDER = False
MAX_FIELDS = 1_000_000
MAX_DEPTH = 16
MAX_WEIGHTS = 131_072
MAX_PARTS = 4096
MAX_NUMBER = 1 << 62
MAX_DIMENSIONS = 64
MAX_PORTS = 4096
MAX_TOML_BYTES = 1 << 20
# In the metadata of a model, `unit:NAME` states the unit of the input or output NAME.
UNIT_KEY = "unit:"
# Text encoders have no other inputs than these.
TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
HIDDEN = "last_hidden_state"
POOLING = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
# A model of speech is an encoder of samples and a decoder that writes tokens.
SAMPLES, STATES = "input_values", "encoder_hidden_states"


class Dtype(NamedTuple):
    """A TensorProto.DataType: its name in manifests, and bits per element (0: of no fixed size)."""

    name: str
    bits: int


DTYPES = {
    1: Dtype("float32", 32),
    2: Dtype("uint8", 8),
    3: Dtype("int8", 8),
    4: Dtype("uint16", 16),
    5: Dtype("int16", 16),
    6: Dtype("int32", 32),
    7: Dtype("int64", 64),
    8: Dtype("string", 0),
    9: Dtype("bool", 8),
    10: Dtype("float16", 16),
    11: Dtype("float64", 64),
    12: Dtype("uint32", 32),
    13: Dtype("uint64", 64),
    14: Dtype("complex64", 64),
    15: Dtype("complex128", 128),
    16: Dtype("bfloat16", 16),
    17: Dtype("float8e4m3fn", 8),
    18: Dtype("float8e4m3fnuz", 8),
    19: Dtype("float8e5m2", 8),
    20: Dtype("float8e5m2fnuz", 8),
    21: Dtype("uint4", 4),
    22: Dtype("int4", 4),
    23: Dtype("float4e2m1", 4),
    24: Dtype("float8e8m0", 8),
    25: Dtype("uint2", 2),
    26: Dtype("int2", 2),
}


class Graph(Struct, frozen=True):
    """What is known of a model without its weights; `num_elements` and `num_bytes` of initializers, by data type;
    `units` as its metadata state them, by the name of an input or output; `external` how many bytes each of the other
    files must have at least, by its name beside the model."""

    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    num_nodes: int
    num_elements: dict[str, int]
    num_bytes: dict[str, int]
    units: dict[str, str] = {}
    external: dict[str, int] = {}


class _Stated(Struct, frozen=True, forbid_unknown_fields=True):
    """What signature.toml holds."""

    units: dict[str, str]


def matches(head: bytes, name: str) -> bool:
    """ONNX files have no magic: they are known by name; what is not one is refused by `read`."""
    return name.lower().endswith(".onnx")


def read(path: Path) -> Graph:
    """The graph of the ONNX file at `path`. Raises FormatError, UnsupportedError."""
    with opened(path) as window:
        return _Reading(window).model()


def parts(name: str, find: Find) -> tuple[str, ...]:
    """The files beside the model that hold weights of it. Raises FormatError, UnsupportedError."""
    return tuple(sorted(read(path_of(name, find)).external))


def describe(paths: Mapping[str, Path]) -> Facts:
    """What graph, configuration and tokenizer say in the manifest's words. Raises FormatError, UnsupportedError."""
    graph = read(paths["weights"])
    for name, needed_bytes in graph.external.items():
        check_size(paths, name, needed_bytes)
    if len(graph.external) + 1 != sum(role.startswith("weights") for role in paths):
        raise FormatError("there are more files of weights than this ONNX model names")
    config = beside.json_object(paths["config"]) if "config" in paths else {}
    decoder = read(paths["decoder"]) if "decoder" in paths else None
    labels = beside.value(config, "id2label", dict[str, str], {})
    task = _task(graph, len(labels)) if decoder is None else _speech_task(graph, decoder)
    if task != "predict" and "tokenizer" not in paths:
        raise FormatError("this ONNX model reads or writes text, but no tokenizer.json lies beside it")
    if "tokenizer" in paths:
        beside.json_object(paths["tokenizer"], max_bytes=beside.MAX_TOKENIZER_BYTES)
    values: dict[str, Value] = {
        "architecture": plain_text(beside.value(config, "model_type", str, "")),
        "parameters": sum(graph.num_elements.values()) + (sum(decoder.num_elements.values()) if decoder else 0),
        "quantisation": max(graph.num_bytes, key=lambda name: graph.num_bytes[name], default=""),
        "opset": graph.opsets.get("", 0),
        "nodes": graph.num_nodes,
    }
    if task not in ("predict", "transcribe"):
        values["context_tokens"] = beside.count(config, "max_position_embeddings")
    if task == "embed":
        hidden = next(port for port in graph.outputs if port.name == HIDDEN)
        width = hidden.shape[-1] if hidden.shape else -1
        values["embedding_width"] = width if width > 0 else beside.count(config, "hidden_size")
        values["pooling"] = beside.pooling(paths, POOLING)
    return Facts(
        task=task,
        signature=_signature(graph, paths),
        values={key: value for key, value in values.items() if value},
    )


def _signature(graph: Graph, paths: Mapping[str, Path]) -> Signature:
    """The ports with their units: from the table `units` of signature.toml, else from the model's own metadata."""
    units = dict(graph.units)
    if "signature" in paths:
        units |= _stated_units(paths["signature"])
    names = [port.name for port in (*graph.inputs, *graph.outputs)]
    for name, unit in units.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise FormatError(
                f"a unit is stated for {plain_text(name, 80)!r}, which is neither input nor output",
                hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:8])}",
            )
        try:
            check_unit(unit)
        except InputError as error:
            raise FormatError(f"{name}: {plain_text(error.message)}", hint=error.hint) from None

    def with_units(ports: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(msgspec.structs.replace(port, unit=units.get(port.name, port.unit)) for port in ports)

    return Signature(with_units(graph.inputs), with_units(graph.outputs))


def _stated_units(path: Path) -> dict[str, str]:
    with opened(path) as window:
        if window.size > MAX_TOML_BYTES:
            raise FormatError("signature.toml is too large")
        try:
            found = tomllib.loads(window.read(0, window.size).decode())
            return msgspec.convert(found, _Stated).units
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError):
            raise FormatError(
                "signature.toml is not a table `units` of names and units", hint='[units], then lines like `x = "K"`'
            ) from None


def _task(graph: Graph, num_labels: int) -> Task:
    """What the ports are for; `num_labels` have a name in config.json, so tokens can be labelled by them."""
    inputs, outputs = {port.name for port in graph.inputs}, {port.name: port for port in graph.outputs}
    if "input_ids" not in inputs or not inputs <= TEXT_INPUTS:
        return "predict"
    if HIDDEN in outputs:
        return "embed"
    logits = outputs.get("logits")
    if logits is not None and len(logits.shape) == 2:
        return "rerank" if logits.shape[1] == 1 else "classify"
    if logits is not None and len(logits.shape) == 3 and num_labels and logits.shape[2] in (-1, num_labels):
        return "classify"
    return "predict"


def _speech_task(encoder: Graph, decoder: Graph) -> Task:
    """`transcribe`. Raises UnsupportedError for any other pair of models than of samples to text."""
    inputs = {port.name for port in encoder.inputs}
    if SAMPLES not in inputs or not {"input_ids", STATES} <= {port.name for port in decoder.inputs}:
        raise UnsupportedError(
            "the encoder and decoder are not of a speech model that is known here",
            hint=f"the encoder takes {SAMPLES}, the decoder input_ids and {STATES}",
        )
    return "transcribe"


def _whole_number(text: str, default: int) -> int:
    """A decimal number, the default for no text, -1 for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1 if text else default


class _Reading(Walk):
    """One walk over a model; weights are stepped over."""

    def __init__(self, window: Window) -> None:
        super().__init__(window, MAX_FIELDS)
        self._num_nodes = 0
        self._num_elements = Counter[str]()
        self._num_bytes = Counter[str]()
        self._units: dict[str, str] = {}
        self._external: dict[str, int] = {}

    def model(self) -> Graph:
        ir_version, opsets, graph = 0, dict[str, int](), None
        for field in self.fields(0, self.window.size):
            match field.number:
                case 1:
                    ir_version = field.value
                case 7 if graph is None:
                    graph = field
                case 7:
                    raise FormatError("the ONNX file has two graphs")
                case 8:
                    domain, version = self._opset(field)
                    opsets["" if domain == "ai.onnx" else domain] = version
                case 14:
                    self._note(field)
                case 25:
                    self._function(field)
                case _:
                    pass
        if graph is None or not 1 <= ir_version < 1000 or not opsets:
            raise FormatError("this is not an ONNX model: graph, version or operator set is missing")
        inputs, outputs, weights = self._graph(graph, 0)
        return Graph(
            ir_version,
            opsets,
            # Before IR version 4 initializers had to be listed as inputs too.
            tuple(port for port in inputs if port.name not in weights),
            tuple(outputs),
            self._num_nodes,
            dict(self._num_elements),
            dict(self._num_bytes),
            self._units,
            self._external,
        )

    def _graph(self, graph: Field, depth: int) -> tuple[list[TensorSpec], list[TensorSpec], set[str]]:
        inputs, outputs, weights = list[TensorSpec](), list[TensorSpec](), set[str]()
        for field in self.fields(graph.start, graph.end):
            match field.number:
                case 1:
                    self._node(field, depth)
                case 5:
                    weights.add(self._tensor(field))
                    if len(weights) > MAX_WEIGHTS:
                        raise FormatError("the ONNX graph has too many weights")
                case 11:
                    inputs.append(self._port(field))
                case 12:
                    outputs.append(self._port(field))
                case 15:
                    raise UnsupportedError("the ONNX model has sparse weights")
                case _:
                    pass
            if len(inputs) + len(outputs) > MAX_PORTS + len(weights):
                raise FormatError("the ONNX graph has too many inputs or outputs")
        for ports in (inputs, outputs):
            if len({port.name for port in ports}) < len(ports):
                raise FormatError("the ONNX graph has two inputs or outputs of one name")
        return inputs, outputs, weights

    def _note(self, pair: Field) -> None:
        """One entry of the metadata; only units are of interest, and others may be long."""
        key, value = "", None
        for field in self.fields(pair.start, pair.end):
            if field.number == 1 and field.end - field.start <= MAX_TEXT_BYTES:
                key = self.text(field)
            elif field.number == 2:
                value = field
        if key.startswith(UNIT_KEY) and value is not None:
            self._units[key.removeprefix(UNIT_KEY)] = self.text(value)
            if len(self._units) > MAX_PORTS:
                raise FormatError("the ONNX model states too many units")

    def _function(self, function: Field) -> None:
        for field in self.fields(function.start, function.end):
            if field.number == 7:
                self._node(field, 0)

    def _node(self, node: Field, depth: int) -> None:
        self._num_nodes += 1
        for field in self.fields(node.start, node.end):
            if field.number == 5:
                self._attribute(field, depth)

    def _attribute(self, attribute: Field, depth: int) -> None:
        """Tensors and graphs inside an attribute are checked like the others."""
        if depth >= MAX_DEPTH:
            raise FormatError("the ONNX graph is nested too deeply")
        for field in self.fields(attribute.start, attribute.end):
            if field.number in (5, 10) and field.end:
                self._tensor(field)
            elif field.number in (6, 11) and field.end:
                self._graph(field, depth + 1)
            elif field.number in (22, 23):
                raise UnsupportedError("the ONNX model has sparse weights")

    def _tensor(self, tensor: Field) -> str:
        """Check one tensor's size against its shape, count it, and return its name."""
        name, shape, number, raw = "", list[int](), 0, -1
        entries, is_outside = list[Field](), False
        for field in self.fields(tensor.start, tensor.end):
            match field.number:
                case 1:
                    shape.extend(self.whole(field))
                case 2:
                    number = field.value
                case 8:
                    name = self.text(field)
                case 9:
                    raw = field.end - field.start
                case 13:
                    entries.append(field)
                case 14:
                    is_outside = field.value == 1
                case _:
                    pass
            if len(shape) > MAX_DIMENSIONS:
                raise FormatError("a tensor of the ONNX model has too many dimensions")
        dtype = DTYPES.get(number)
        if dtype is None or any(length < 0 for length in shape):
            raise FormatError(f"tensor {name[:80]!r} of the ONNX model has an unknown type or a negative size")
        self._place(name, dtype, math.prod(shape), raw, entries if is_outside or entries else None)
        return name

    def _place(self, name: str, dtype: Dtype, num_elements: int, raw: int, outside: list[Field] | None) -> None:
        """Check that a tensor's bytes are where it says: `raw` many in the model, or, by its entries, `outside`."""
        num_bytes = (num_elements * dtype.bits + 7) // 8
        if outside is not None:
            self._outside(name, outside, num_bytes if dtype.bits else -1)
        elif (raw >= 0 and (dtype.bits == 0 or raw != num_bytes)) or num_elements > 8 * self.window.size:
            raise FormatError(f"tensor {name[:80]!r} of the ONNX model has not the bytes that its shape needs")
        self._num_elements[dtype.name] += num_elements
        self._num_bytes[dtype.name] += num_bytes

    def _outside(self, name: str, entries: list[Field], num_bytes: int) -> None:
        """Note where the bytes of a tensor are that lie in another file. Raises FormatError for what cannot be."""
        stated = dict(self._pair(entry) for entry in entries)
        location, offset, length = (stated.get(key, "") for key in ("location", "offset", "length"))
        if not beside.is_within(location):
            raise FormatError(f"tensor {name[:80]!r} of the ONNX model lies outside the model's folder")
        start, size = _whole_number(offset, 0), _whole_number(length, num_bytes)
        if num_bytes < 0 or size != num_bytes or start < 0 or start + size > MAX_NUMBER:
            raise FormatError(f"tensor {name[:80]!r} of the ONNX model has not the bytes that its shape needs")
        self._external[location] = max(self._external.get(location, 0), start + size)
        if len(self._external) > MAX_PARTS:
            raise FormatError("the ONNX model is spread over too many files")

    def _pair(self, entry: Field) -> tuple[str, str]:
        """Key and value of a StringStringEntryProto."""
        texts = {field.number: self.text(field) for field in self.fields(entry.start, entry.end) if field.number < 3}
        return texts.get(1, ""), texts.get(2, "")

    def _port(self, port: Field) -> TensorSpec:
        """An input or output; a dimension without a fixed length is -1."""
        name, dtype, shape = "", "", list[int]()
        for field in self.fields(port.start, port.end):
            if field.number == 1:
                name = self.text(field)
            elif field.number == 2:
                for kind in self.fields(field.start, field.end):
                    if kind.number != 1:
                        raise UnsupportedError(
                            f"{name[:80]!r} of the ONNX model is not a plain tensor",
                            hint="export it without sequences and maps; of scikit-learn, with the option zipmap=False",
                        )
                    dtype, shape = self._tensor_type(kind)
        if not name:
            raise FormatError("the ONNX graph has an input or output without a name")
        return TensorSpec(name, dtype or "unknown", tuple(shape))

    def _tensor_type(self, kind: Field) -> tuple[str, list[int]]:
        dtype, shape = "", list[int]()
        for field in self.fields(kind.start, kind.end):
            if field.number == 1:
                dtype = DTYPES[field.value].name if field.value in DTYPES else ""
            elif field.number == 2:
                for dimension in self.fields(field.start, field.end):
                    if dimension.number == 1:
                        shape.append(self._length(dimension))
                    if len(shape) > MAX_DIMENSIONS:
                        raise FormatError("an input or output of the ONNX model has too many dimensions")
        return dtype, shape

    def _length(self, dimension: Field) -> int:
        lengths = [field.value for field in self.fields(dimension.start, dimension.end) if field.number == 1]
        return lengths[-1] if lengths and 0 <= lengths[-1] < 1 << 62 else -1

    def _opset(self, opset: Field) -> tuple[str, int]:
        domain, version = "", 0
        for field in self.fields(opset.start, opset.end):
            if field.number == 1:
                domain = self.text(field)
            elif field.number == 2:
                version = field.value
        return domain, version
