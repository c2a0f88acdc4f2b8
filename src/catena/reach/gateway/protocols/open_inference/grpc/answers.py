"""What callers get, in the wire form. Each function gives a message, or the pieces of one that holds arrays."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from catena.core.manifest import TensorSpec
from catena.core.messages import Tensor
from catena.core.messages.predict import DTYPE_NAMES
from catena.reach.gateway.grpc.protobuf import LENGTH, put, put_number, put_numbers, put_text, varint
from catena.reach.gateway.protocols.open_inference.grpc.contents import FIELDS, unpacked

# DataType of model_config.proto: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
_TYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
CONFIG_TYPES: dict[str, int] = {name: index for index, name in enumerate((*_TYPES, "BYTES", "BF16"), 1)}
PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
_RAW = varint(6 << 3 | LENGTH)
Parameters = Mapping[str, str | bool]


def flag(is_so: bool) -> bytes:
    """The message of ServerLive, ServerReady and ModelReady."""
    return put_number(1, is_so)


def server(name: str, version: str, extensions: Iterable[str]) -> bytes:
    return put_text(1, name) + put_text(2, version) + b"".join([put(3, one) for one in extensions])


def model(name: str, version: str, platform: str, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> bytes:
    """The message of ModelMetadata, which has no place for units."""
    ports = [put(4, _port(one)) for one in inputs] + [put(5, _port(one)) for one in outputs]
    return b"".join((put_text(1, name), put(2, version), put_text(3, platform), *ports))


def config(form: Mapping[str, Any], *, is_decoupled: bool) -> bytes:
    """The message of ModelConfig, of what `metadata.config_form` gives."""
    whole = [put_text(1, form["name"]), put_text(2, form["platform"]), put_text(17, form["backend"])]
    for number, key, dims in ((5, "input", 4), (6, "output", 3)):
        for port in form[key]:
            datatype = port["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES")
            one = put_text(1, port["name"]) + put_number(2, CONFIG_TYPES[datatype]) + put_numbers(dims, port["dims"])
            whole.append(put(number, one))
    if is_decoupled:
        whole.append(put(19, put_number(1, 1)))
    return put(1, b"".join(whole))


def statistics(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The message of ModelStatistics, of what `Counts.form` gives."""
    return b"".join([put(1, _statistics(row)) for row in rows])


def index(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The message of RepositoryIndex."""
    keys = ("name", "version", "state", "reason")
    return b"".join(
        [put(1, b"".join([put_text(number, row[key]) for number, key in enumerate(keys, 1)])) for row in rows]
    )


def inferred(
    model: str, version: str, id: str, outputs: Iterable[Tensor], *, is_raw: bool, parameters: Parameters | None = None
) -> list[bytes | memoryview]:
    """The message of ModelInfer. Without `is_raw` elements are typed, unless one array is of a type that cannot be."""
    outputs = tuple(outputs)
    is_raw = is_raw or any(one.dtype not in FIELDS for one in outputs)
    pieces: list[bytes | memoryview] = [_beginning(model, version)]
    if id:
        pieces.append(put(3, id))
    if parameters:
        pieces += _parameters(4, parameters)
    for tensor in outputs:
        head = _head(tensor.name, tensor.dtype, tensor.shape, tensor.unit)
        pieces.append(put(5, head if is_raw else head + put(5, unpacked(tensor))))
    if is_raw:
        for tensor in outputs:
            pieces += (_RAW, varint(len(tensor.data)), tensor.data)
    return pieces


@functools.lru_cache(maxsize=256)
def _beginning(model: str, version: str) -> bytes:
    return put_text(1, model) + put_text(2, version)


@functools.lru_cache(maxsize=1024)
def _head(name: str, dtype: str, shape: tuple[int, ...], unit: str) -> bytes:
    """What is said of an array beside its elements: the same for many answers."""
    told = _parameters(4, {"unit": unit}) if unit not in ("1", "") else []
    return b"".join([put_text(1, name), put_text(2, dtype), put_numbers(3, shape), *told])


def streamed(pieces: list[bytes | memoryview], error: str = "") -> list[bytes | memoryview]:
    """The message of ModelStreamInfer around one of ModelInfer."""
    return [put_text(1, error), varint(2 << 3 | LENGTH), varint(sum(map(len, pieces))), *pieces]


def _port(port: TensorSpec) -> bytes:
    return put_text(1, port.name) + put_text(2, DTYPE_NAMES[port.dtype]) + put_numbers(3, port.shape)


def _parameters(number: int, parameters: Parameters) -> list[bytes]:
    entries: list[bytes] = []
    for name, value in parameters.items():
        one = varint(1 << 3) + varint(value) if isinstance(value, bool) else put(3, value)
        entries.append(put(number, put(1, name) + put(2, one)))
    return entries


def _statistics(row: Mapping[str, Any]) -> bytes:
    parts = [put(number, _duration(row["inference_stats"][name])) for number, name in enumerate(PARTS, 1)]
    whole = [
        put_text(1, row["name"]),
        put_text(2, row["version"]),
        put_number(3, row["last_inference"]),
        put_number(4, row["inference_count"]),
        put_number(5, row["execution_count"]),
        put(6, b"".join(parts)),
    ]
    for one in row["batch_stats"]:
        whole.append(put(7, put_number(1, one["batch_size"]) + put(3, _duration(one["compute_infer"]))))
    return b"".join(whole)


def _duration(pair: Mapping[str, int]) -> bytes:
    return put_number(1, pair["count"]) + put_number(2, pair["ns"])
