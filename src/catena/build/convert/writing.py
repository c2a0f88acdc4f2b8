"""Writes GGUF files tensor by tensor with the gguf package, and reads parents tensor by tensor as 32-bit floats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from catena.build.convert import Measure
from catena.core.errors import MissingExtraError
from catena.store.rows import Progress, Report

try:
    import gguf
    import numpy as np
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "gguf", "convert") from error

library: Any = gguf
# In the order in which they should be offered.
FORMS = ("Q8_0", "F16", "BF16", "F32", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
# General.file_type of llama.cpp (include/llama.h, enum llama_ftype).
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}
# Relative error (root of mean square) of rounding normal weights to each form stays well below these.
_LIMITS = {"F32": 1e-6, "F16": 1e-3, "BF16": 5e-3, "Q8_0": 0.02, "Q5_1": 0.1, "Q5_0": 0.1, "Q4_1": 0.2, "Q4_0": 0.2}
# Tables of tokens are kept at 8 bits: llama.cpp spares them in its mixtures too (src/llama-quant.cpp).
_TABLES = frozenset({"token_embd.weight", "output.weight"})


class Source(Struct, frozen=True):
    """One tensor of the parent: shape with the last dimension varying fastest, and how to read it as float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Any]


def version() -> str:
    """The library with its version."""
    from importlib.metadata import version as of  # noqa: PLC0415 - slow to import, needed once

    return f"gguf {of('gguf')}"


def write(path: Path, writer: Any, sources: Sequence[Source], form: str, report: Report) -> Measure:
    """Write every tensor in `form`, and say how far the weights read back are from the parent's.

    The measure is the root of the mean square of the differences, divided by that of the parent's weights.
    """
    kinds = [_kind(source, form) for source in sources]
    writer.add_file_type(_FILE_TYPES[form])
    for source, kind in zip(sources, kinds, strict=True):
        size = math.prod(source.shape) // _block(kind)[0] * _block(kind)[1]
        writer.add_tensor_info(source.name, source.shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    total, done, wrong_2, all_2 = sum(math.prod(source.shape) for source in sources), 0, 0.0, 0.0
    for source, kind in zip(sources, kinds, strict=True):
        weights = np.ascontiguousarray(source.read(), dtype=np.float32).reshape(source.shape)
        data = library.quants.quantize(weights, kind)
        writer.write_tensor_data(data)
        again = library.quants.dequantize(data, kind).reshape(source.shape).astype(np.float64)
        wrong_2 += float(np.square(again - weights).sum())
        all_2 += float(np.square(weights, dtype=np.float64).sum())
        done += math.prod(source.shape)
        report(Progress("store", path.name, 4 * done, 4 * total))
    writer.close()
    error = math.sqrt(wrong_2 / all_2) if all_2 else 0.0
    return Measure(f"relative error of the weights in {form}", error, error <= _LIMITS[form])


def read_back(path: Path) -> Iterator[tuple[str, Any]]:
    """Name and float32 weights of each tensor of a GGUF file."""
    for tensor in library.GGUFReader(path).tensors:
        yield tensor.name, dequantised(tensor)


def dequantised(tensor: Any) -> Any:
    """One tensor of a GGUFReader as float32, in the shape with the last dimension varying fastest."""
    shape = tuple(int(length) for length in reversed(tensor.shape))
    return library.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def _kind(source: Source, form: str) -> Any:
    """The type that a tensor is written in: vectors stay exact, and rows must be made of whole blocks."""
    kind = library.GGMLQuantizationType
    if len(source.shape) < 2:
        return kind.F32
    wanted = kind[form]
    if source.name in _TABLES and _block(wanted)[0] > 1:
        wanted = kind.Q8_0
    return wanted if source.shape[-1] % _block(wanted)[0] == 0 else kind.F16


def _block(kind: Any) -> tuple[int, int]:
    """Elements and bytes of a block."""
    return library.GGML_QUANT_SIZES[kind]
