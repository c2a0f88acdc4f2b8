"""Compares two models that take arrays: the same made inputs into both, and how far the outputs are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from catena.build.convert import Measure
from catena.core.errors import MissingExtraError
from catena.core.manifest import StoredModel, TensorSpec

try:
    import numpy as np
    import onnxruntime
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "onnxruntime", "convert") from error

library: Any = onnxruntime
NUM_ROWS, LENGTH, MAX_ID = 2, 12, 100
_ERRORS = (RuntimeError, ValueError, TypeError)

Arrays = Mapping[str, Any]


def inputs(model: StoredModel) -> dict[str, Any]:
    """Arrays that fit the signature: normal numbers, small whole ones, masks of ones. The same each time."""
    draw = np.random.default_rng(7)
    return {port.name: _array(port, draw) for port in model.manifest.signature.inputs}


def onnx_outputs(path: str, given: Arrays) -> dict[str, Any] | None:
    """What an ONNX model makes of arrays; None if it cannot take them, as a model that wants certain values may not."""
    session = library.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return ran(lambda: dict(zip(names, session.run(None, dict(given)), strict=True)))


def ran(run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What `run` gives; None if the library refuses the arrays."""
    state = library.capi.onnxruntime_pybind11_state
    try:
        return run()
    except (*_ERRORS, state.InvalidArgument, state.Fail, state.RuntimeException):
        return None


def compared(parent: Arrays | None, child: Arrays | None, limit: float) -> tuple[Measure, ...]:
    """Cosine between the outputs of float type, all in one vector; nothing if the parent could not be run.

    `limit` is the cosine from which on they count as near.
    """
    if parent is None:
        return ()
    what = "cosine between the outputs for made inputs"
    names = [name for name, array in parent.items() if np.issubdtype(array.dtype, np.floating)]
    if child is None or not all(name in child and child[name].shape == parent[name].shape for name in names):
        return (Measure(what, 0.0, False),)
    first, second = (
        np.concatenate([np.ravel(arrays[name]).astype(np.float64) for name in names] or [np.ones(1)])
        for arrays in (parent, child)
    )
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    cosine = float(first @ second / scale) if scale else float(np.array_equal(first, second))
    return (Measure(what, cosine, bool(np.isfinite(cosine)) and cosine >= limit),)


def _array(port: TensorSpec, draw: Any) -> Any:
    shape = [length if length > 0 else LENGTH if index else NUM_ROWS for index, length in enumerate(port.shape)]
    if port.dtype == "bool":
        return draw.integers(0, 2, shape).astype(bool)
    if port.dtype == "string":
        return np.full(shape, "text", dtype=object)
    dtype = np.dtype(port.dtype if port.dtype != "unknown" else "float32")
    if np.issubdtype(dtype, np.floating):
        return draw.standard_normal(shape).astype(dtype)
    if "mask" in port.name:
        return np.ones(shape, dtype)
    return np.zeros(shape, dtype) if "type" in port.name else draw.integers(1, MAX_ID, shape).astype(dtype)
