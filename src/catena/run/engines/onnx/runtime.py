"""What every ONNX session needs of the library: its errors by name, and a model opened for our share of the cores."""

from __future__ import annotations

import mmap
from typing import Any

from catena.core.errors import FormatError, MissingExtraError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "onnxruntime", "onnx") from error

library: Any = onnxruntime
_STATE = library.capi.onnxruntime_pybind11_state
# What the library says of values that a model cannot take, such as an index out of range.
BAD_VALUE = _STATE.InvalidArgument
ERRORS = (
    BAD_VALUE,
    _STATE.Fail,
    _STATE.InvalidGraph,
    _STATE.InvalidProtobuf,
    _STATE.NoSuchFile,
    _STATE.NotImplemented,
    _STATE.RuntimeException,
)
# A model that quantises its activations while it runs does so with one scale for the whole batch: an answer would then
# depend on the others of its batch (cosine to itself alone below 0.996, docs/decisions/0005-engines.md).
_DYNAMIC = b"DynamicQuantizeLinear"


def name() -> str:
    """The engine with its version, as sessions state it."""
    return f"onnx {library.__version__}"


def opened(model: StoredModel, placement: Placement, role: str = "weights") -> Any:
    """An InferenceSession of one file of the model on the CPU. Raises FormatError."""
    options = library.SessionOptions()
    options.intra_op_num_threads = placement.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Idle threads must not spin: the cores are shared with the other engines.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return library.InferenceSession(str(model.path(role)), options, providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise FormatError(f"onnxruntime cannot load the {role} of {model.name}", hint=verify_hint(model)) from error


def verify_hint(model: StoredModel) -> str:
    """What to do when a file is not what it should be."""
    return f"run `catena verify {model.name}`"


def uses(model: StoredModel, *kinds: str) -> bool:
    """Whether a node of the model is, or may be, of one of these kinds."""
    # Field 4 of a NodeProto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
    return _holds(model, *(b"\x22" + bytes([len(kind)]) + kind.encode() for kind in kinds))


def quantises_batches(model: StoredModel) -> bool:
    """Whether one answer of the model depends on the others that are computed with it."""
    return _holds(model, _DYNAMIC)


def _holds(model: StoredModel, *texts: bytes) -> bool:
    with (
        model.path("weights").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return any(data.find(text) >= 0 for text in texts)
