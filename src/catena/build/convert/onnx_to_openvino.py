"""ONNX to OpenVINO IR, with weights as they are or of 16 bits (openvino.convert_model, openvino.save_model)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catena.build.convert import Made
from catena.build.convert.arrays import compared, inputs, onnx_outputs, ran
from catena.core.errors import MissingExtraError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.store.rows import Progress, Report

try:
    import openvino
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "openvino", "convert") from error

QUANTISATIONS = ("F16", "F32")
# Both compute the same, but for rounding; where activations are quantised while the model runs (bge), that is 0.9967.
NEAR_COSINE = 0.99
_library: Any = openvino


def convert(model: StoredModel, folder: Path, quantise: str, report: Report) -> Made:
    """Read the graph, write .xml and .bin, and run both on this machine's processor."""
    source, target = str(model.path("weights")), folder / "openvino_model.xml"
    report(Progress("read", model.name, 0, None))
    try:
        graph = _library.convert_model(source)
    except RuntimeError as error:
        raise UnsupportedError(f"OpenVINO cannot read {model.name}") from error
    _library.save_model(graph, target, compress_to_fp16=quantise == "F16")
    given = inputs(model)
    child = ran(lambda: _outputs(target, given))
    measures = compared(onnx_outputs(source, given), child, NEAR_COSINE)
    return Made(f"openvino {_library.__version__.partition('-')[0]}", measures)


def _outputs(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    compiled = _library.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(given)
    return {port.get_any_name(): array for port, array in found.items()}
