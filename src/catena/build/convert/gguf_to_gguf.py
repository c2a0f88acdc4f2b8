"""GGUF to GGUF in another form of weights: for more users at once (Q8_0), or less memory (Q4_0); parts are joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catena.build.convert import Made
from catena.build.convert.writing import FORMS, Source, dequantised, library, version, write
from catena.core.errors import UnsupportedError
from catena.core.manifest import StoredModel
from catena.store.rows import Report

QUANTISATIONS = FORMS
# Written by the library itself, or about parts that are joined here.
_OWN = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version", "split.")


def convert(model: StoredModel, folder: Path, quantise: str, report: Report) -> Made:
    """Read every tensor, and write it in another form under the same metadata."""
    weights = [model.paths[entry.name] for entry in model.manifest.files if entry.role == "weights"]
    if model.manifest.task == "adapter":
        raise UnsupportedError(f"{model.name} is an adapter: it is small, and exact weights matter")
    readers = [library.GGUFReader(path) for path in weights]
    writer = library.GGUFWriter(None, model.fact("architecture"))
    for field in readers[0].fields.values():
        if not field.name.startswith(_OWN):
            _copy(writer, field)
    writer.add_quantization_version(library.GGML_QUANT_VERSION)
    sources = [_source(tensor) for reader in readers for tensor in reader.tensors]
    return Made(version(), (write(folder / f"{folder.name}.gguf", writer, sources, quantise, report),))


def _source(tensor: Any) -> Source:
    return Source(tensor.name, tuple(int(length) for length in reversed(tensor.shape)), lambda: dequantised(tensor))


def _copy(writer: Any, field: Any) -> None:
    kind, inner = field.types[0], field.types[-1]
    writer.add_key_value(field.name, field.contents(), kind, inner if kind == library.GGUFValueType.ARRAY else None)
