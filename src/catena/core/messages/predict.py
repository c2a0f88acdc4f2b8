"""Named arrays to named arrays: what is asked of a model that predicts and what comes back."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import Struct

from catena.core.messages.events import Timings


class Dtype(NamedTuple):
    """What a data type is called in manifests, and its bytes per element (0: of no fixed size)."""

    name: str
    num_bytes: int


# Names of the Open Inference Protocol, version 2:
# https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
DTYPES: dict[str, Dtype] = {
    "BOOL": Dtype("bool", 1),
    "UINT8": Dtype("uint8", 1),
    "UINT16": Dtype("uint16", 2),
    "UINT32": Dtype("uint32", 4),
    "UINT64": Dtype("uint64", 8),
    "INT8": Dtype("int8", 1),
    "INT16": Dtype("int16", 2),
    "INT32": Dtype("int32", 4),
    "INT64": Dtype("int64", 8),
    "FP16": Dtype("float16", 2),
    "FP32": Dtype("float32", 4),
    "FP64": Dtype("float64", 8),
    "BF16": Dtype("bfloat16", 2),
    "BYTES": Dtype("string", 0),
}
# The same, from the names of manifests.
DTYPE_NAMES: dict[str, str] = {dtype.name: name for name, dtype in DTYPES.items()}


class Tensor(Struct, frozen=True):
    """One array: `data` holds its elements little-endian and row-major, `dtype` is a name of DTYPES.

    BOOL takes one byte per element, 0 or 1. BYTES puts the length of each element, in 4 bytes, before it; text is
    UTF-8. `unit` is as in core.units; empty in a request: the model's own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview
    unit: str = "1"


class PredictRequest(Struct, frozen=True, tag="predict"):
    """Arrays for `model`; `outputs` names those wanted back, in this order (none: all of them)."""

    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()


class Prediction(Struct, frozen=True):
    """The arrays asked for. `num_rows` of this request were computed in one run with `run_rows` in all; of the
    requests that shared a run, one is its first."""

    outputs: tuple[Tensor, ...]
    timings: Timings = Timings()
    num_rows: int = 1
    run_rows: int = 1
    is_first: bool = True


def tensor_bytes(tensors: tuple[Tensor, ...], *about: str) -> bytes:
    """The canonical bytes of arrays, which digests are taken of.

    A line of JSON: `about`, then name, data type, shape, unit and size in bytes of each array; then their data.
    """
    heads = [(one.name, one.dtype, one.shape, one.unit, len(one.data)) for one in tensors]
    return b"".join([msgspec.json.encode([about, heads]), b"\n", *(one.data for one in tensors)])
