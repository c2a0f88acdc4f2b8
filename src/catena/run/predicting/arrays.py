"""Arrays of requests and answers as numpy arrays and back, and rows that a model may be tried with."""

from __future__ import annotations

from typing import Any

from catena.core.errors import EngineError, InputError, MissingExtraError
from catena.core.manifest import StoredModel, TensorSpec
from catena.core.messages import Tensor
from catena.core.messages.predict import DTYPE_NAMES

try:
    import numpy
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "numpy", "onnx") from error

Array = NDArray[Any]
NUMPY: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
PROBE_ROWS = 3
# A sum of float32 products taken in another order differs by this much at most; more means that rows touch.
PROBE_RTOL, PROBE_ATOL = 1e-3, 1e-5


def refusal(model: StoredModel) -> str | None:
    """Why the model cannot predict here; None if it can."""
    signature = model.manifest.signature
    if "weights" not in {file.role for file in model.manifest.files}:
        return f"{model.name} has no file of role weights"
    if not signature.outputs:
        return f"{model.name} has no signature"
    for port in (*signature.inputs, *signature.outputs):
        if DTYPE_NAMES.get(port.dtype) not in {*NUMPY, "BYTES"}:
            return f"{port.name} of {model.name} has the data type {port.dtype}"
    return None


def array_of(tensor: Tensor) -> Array:
    """`tensor` as an array, over the same memory where it is aligned. Raises InputError if size and shape differ."""
    try:
        if tensor.dtype == "BYTES":
            return numpy.array(_texts(tensor), dtype=object).reshape(tensor.shape)
        array = numpy.frombuffer(tensor.data, dtype=NUMPY[tensor.dtype]).reshape(tensor.shape)
    except ValueError as error:
        raise InputError(f"the data of {tensor.name} do not fill its shape", param=tensor.name) from error
    return array if array.flags.aligned else array.copy()


def tensor_of(name: str, port: TensorSpec, array: Any) -> Tensor:
    """An output of the model in plain bytes. Raises what a run left in its place."""
    if isinstance(array, InputError | EngineError):
        raise array
    dtype = DTYPE_NAMES[port.dtype]
    if dtype == "BYTES":
        texts = [str(each).encode() for each in array.ravel()]
        data = b"".join(piece for text in texts for piece in (len(text).to_bytes(4, "little"), text))
    else:
        data = array.astype(NUMPY[dtype], copy=False).tobytes()
    return Tensor(name, dtype, array.shape, data, port.unit)


def _texts(tensor: Tensor) -> list[str]:
    texts: list[str] = []
    view, offset = memoryview(tensor.data), 0
    while offset < len(view):
        end = offset + 4 + int.from_bytes(view[offset : offset + 4], "little")
        if end > len(view):
            raise InputError(f"an element of {tensor.name} is longer than the data", param=tensor.name)
        try:
            texts.append(str(view[offset + 4 : end], "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"an element of {tensor.name} is not UTF-8", param=tensor.name) from error
        offset = end
    return texts


def random_rows(rng: numpy.random.Generator, port: TensorSpec, num_rows: int = PROBE_ROWS) -> Array:
    """Rows to try a port with: whole numbers are 0 or 1, so that they may be indices."""
    shape = (num_rows, *(length if length >= 0 else 2 for length in port.shape[1:]))
    kind = numpy.dtype(NUMPY[DTYPE_NAMES[port.dtype]])
    values = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
    return values.astype(kind)


def is_close(found: Array, expected: Array) -> bool:
    if found.dtype.kind != "f":
        return numpy.array_equal(found, expected)
    return numpy.allclose(found, expected, rtol=PROBE_RTOL, atol=PROBE_ATOL, equal_nan=True)
