"""ONNX to ONNX with weights of 8 bits: activations are quantised while the model runs (onnxruntime.quantization)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from catena.build.convert import Made
from catena.build.convert.arrays import compared, inputs, library, onnx_outputs
from catena.core.errors import MissingExtraError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.store.rows import Progress, Report

try:
    from onnxruntime import quantization
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "onnx", "convert") from error

QUANTISATIONS = ("int8", "uint8")
# Below this the child answers something else.
NEAR_COSINE = 0.95
_tools: Any = quantization


def convert(model: StoredModel, folder: Path, quantise: str, report: Report) -> Made:
    """Quantise what can be; a model in which nothing can be is refused."""
    if str(model.fact("quantisation", "")).endswith("int8"):
        raise UnsupportedError(f"the weights of {model.name} have 8 bits already")
    source, target = str(model.path("weights")), str(folder / "model.onnx")
    report(Progress("read", model.name, 0, None))
    weight_type = _tools.QuantType.QInt8 if quantise == "int8" else _tools.QuantType.QUInt8
    # The library warns, through the root logger, that a model was not prepared; that only costs speed.
    logging.getLogger().addFilter(_is_no_advice)
    try:
        _tools.quantize_dynamic(source, target, weight_type=weight_type)
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
    given = inputs(model)
    measures = compared(onnx_outputs(source, given), onnx_outputs(target, given), NEAR_COSINE)
    return Made(f"onnxruntime {library.__version__}", measures)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
