"""Any model from named arrays to named arrays, its requests computed together where their rows do not touch."""

from __future__ import annotations

from typing import Any

from catena.core.clock import monotonic_s
from catena.core.errors import EngineError, FormatError, InputError, MissingExtraError
from catena.core.manifest import StoredModel, TensorSpec
from catena.core.messages import Prediction, PredictRequest, Tensor, Timings
from catena.core.messages.predict import DTYPE_NAMES
from catena.core.protocols import Placement, SessionFacts
from catena.run.engines.onnx import runtime
from catena.run.engines.onnx.batching import Batcher, Call, Done, Stop

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
# Weights, their prepacked copy, and the arena of one run; a session of even the smallest model takes some megabytes.
_MEMORY_FACTOR, _MEMORY_BYTES = 4, 8 << 20
# Rows are tried alone and together before requests may share a run; a larger row is not tried.
PROBE_ROWS, MAX_PROBE_ELEMENTS = 3, 1 << 20
# A sum of float32 products taken in another order differs by this much at most; more means that rows touch.
PROBE_RTOL, PROBE_ATOL = 1e-3, 1e-5
# Handing a run to a thread and taking it back costs about 0.1 ms, and under load a wait for Python's lock.
QUICK_S, NUM_TIMINGS = 0.0005, 5
# Nodes whose work may depend on the values of an input.
DEPENDING = (
    *("Loop", "Scan", "If", "SequenceMap", "Range", "ConstantOfShape", "Expand", "Tile", "Pad", "Resize", "Upsample"),
    *("NonZero", "OneHot", "Compress", "Unique", "NonMaxSuppression"),
)


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


def load(model: StoredModel, placement: Placement) -> Session:
    """Load the weights, and try whether requests may be computed together. Raises FormatError."""
    runner = runtime.opened(model, placement)
    signature = model.manifest.signature
    for found, stated in ((runner.get_inputs(), signature.inputs), (runner.get_outputs(), signature.outputs)):
        if {node.name for node in found} != {port.name for port in stated}:
            raise FormatError(f"{model.name} has not the ports of its manifest", hint=runtime.verify_hint(model))
        if strange := [node.name for node in found if not node.type.startswith("tensor(")]:
            raise FormatError(f"{strange[0]} of {model.name} is not a plain array")
    can_share = placement.batch_rows > 1 and not runtime.quantises_batches(model) and rows_are_apart(runner, model)
    is_quick = can_share and runs_quickly(runner, model, placement.batch_rows)
    facts = SessionFacts(
        engine=runtime.name(),
        device="cpu",
        slots=max(placement.slots, placement.batch_rows),
        context_tokens=0,
        memory_bytes=_MEMORY_BYTES + _MEMORY_FACTOR * model.path("weights").stat().st_size,
    )
    return Session(runner, model, facts, placement, can_share=can_share, is_quick=is_quick)


class Session:
    """A model, one run at a time on all of its threads. `can_share`: requests of one shape may be one run; `is_quick`:
    it is made on the event loop."""

    def __init__(
        self,
        runner: Any,
        model: StoredModel,
        facts: SessionFacts,
        placement: Placement,
        *,
        can_share: bool,
        is_quick: bool,
    ) -> None:
        self.facts = facts
        self.can_share = can_share
        self.is_quick = is_quick
        self._runner: Any = runner
        self._outputs = {port.name: port for port in model.manifest.signature.outputs}
        self._max_rows = placement.batch_rows
        self._batcher = Batcher(self._run, placement.batch_rows, placement.batch_window_s, is_quick=is_quick)

    async def predict(self, request: PredictRequest) -> Prediction:
        """The outputs asked for.

        Computed together with others, a value may differ in its last bits from the same computed alone: sums are then
        taken in another order (measured: docs/guides/predict.md). Raises InputError for values that the
        model cannot take.
        """
        feeds = {one.name: array_of(one) for one in request.inputs}
        wanted = request.outputs or tuple(self._outputs)
        num_rows, key = self._rows(feeds, wanted)
        queued_s = monotonic_s()
        done = await self._batcher.done(Call(feeds, wanted, num_rows, key))
        waited_s = monotonic_s() - queued_s - done.took_s
        outputs = tuple(
            tensor_of(name, self._outputs[name], array) for name, array in zip(wanted, done.outputs, strict=True)
        )
        timings = Timings(prefill_s=max(0.0, waited_s), decode_s=done.took_s)
        return Prediction(outputs, timings, num_rows, done.run_rows, done.is_first)

    async def close(self) -> None:
        """Free the model once the run that may be going on has ended; later requests are refused."""
        await self._batcher.close()
        self._runner = None

    def _rows(self, feeds: dict[str, Array], wanted: tuple[str, ...]) -> tuple[int, Any]:
        """How many rows these are, and what they share with others that may be computed with them (None: nothing)."""
        lengths = {array.shape[0] if array.ndim else 1 for array in feeds.values()}
        num_rows = lengths.pop() if len(lengths) == 1 else 1
        if not self.can_share or lengths or not 0 < num_rows < self._max_rows:
            return num_rows, None
        return num_rows, (wanted, tuple(array.shape[1:] for array in feeds.values()))

    def _run(self, calls: list[Call], stop: Stop) -> list[Done]:
        """Compute `calls` in one run. Raises InputError, EngineError."""
        options = runtime.library.RunOptions()

        def terminate() -> None:
            options.terminate = True

        stop.act = terminate
        if stop.is_set:
            raise EngineError("nobody waits for this any more")
        first = calls[0]
        feeds = first.feeds
        if len(calls) > 1:
            feeds = {name: numpy.concatenate([call.feeds[name] for call in calls]) for name in feeds}
        began_s = monotonic_s()
        try:
            found: list[Any] = self._runner.run(list(first.wanted), feeds, options)
        except runtime.BAD_VALUE as error:
            if len(calls) > 1:
                return self._one_by_one(calls, stop)
            raise InputError("the model cannot take these values or shapes") from error
        except runtime.ERRORS as error:
            if len(calls) > 1:
                return self._one_by_one(calls, stop)
            raise EngineError("onnxruntime failed on an input") from error
        took_s = monotonic_s() - began_s
        num_rows = sum(call.num_rows for call in calls)
        if len(calls) == 1:
            return [Done(found, took_s, num_rows, True)]
        if any(array.shape[:1] != (num_rows,) for array in found):
            raise EngineError("the model gave another number of rows than it was asked for")
        parts: list[Done] = []
        start = 0
        for call in calls:
            end = start + call.num_rows
            parts.append(Done([array[start:end] for array in found], took_s, num_rows, start == 0))
            start = end
        return parts

    def _one_by_one(self, calls: list[Call], stop: Stop) -> list[Done]:
        """One of `calls` broke the run: each is computed by itself, so that it hurts nobody else."""
        results: list[Done] = []
        for call in calls:
            try:
                results += self._run([call], stop)
            except (InputError, EngineError) as error:
                results.append(Done([error], 0.0, call.num_rows, True))
        return results


def rows_are_apart(runner: Any, model: StoredModel) -> bool:
    """Whether every row of every output depends on the same row of the inputs only, tried with random rows.

    Only models whose first dimension varies on every input and output are tried: for the others rows mean nothing.
    """
    signature = model.manifest.signature
    ports = (*signature.inputs, *signature.outputs)
    if not signature.inputs or any(not port.shape or port.shape[0] != -1 or port.dtype == "string" for port in ports):
        return False
    if sum(numpy.prod([max(length, 2) for length in port.shape[1:]]) for port in signature.inputs) > MAX_PROBE_ELEMENTS:
        return False
    rng = numpy.random.default_rng(0)
    feeds = {port.name: _random(rng, port) for port in signature.inputs}
    orders = ([0], [1], [2], [0, 1, 2], [2, 0])
    try:
        runs = [runner.run(None, {name: array[order] for name, array in feeds.items()}) for order in orders]
    except runtime.ERRORS:
        return False
    alone = [[run[index] for run in runs[:PROBE_ROWS]] for index in range(len(signature.outputs))]
    for order, run in zip(orders, runs, strict=True):
        for index, found in enumerate(run):
            expected = [alone[index][row] for row in order]
            if any(one.shape[0] != 1 for one in alone[index]) or found.shape[0] != len(order):
                return False
            if not _is_close(found, numpy.concatenate(expected)):
                return False
    return True


def runs_quickly(runner: Any, model: StoredModel, num_rows: int) -> bool:
    """Whether a run of up to `num_rows` rows holds the event loop for QUICK_S at most, whatever the values are.

    So lengths are fixed but for the rows, and no node makes the work depend on values. Rows are known to be apart.
    """
    inputs = model.manifest.signature.inputs
    if any(-1 in port.shape[1:] for port in inputs) or runtime.uses(model, *DEPENDING):
        return False
    rng = numpy.random.default_rng(0)
    feeds = {port.name: _random(rng, port, num_rows) for port in inputs}
    took_s: list[float] = []
    for _ in range(NUM_TIMINGS):
        began_s = monotonic_s()
        runner.run(None, feeds)
        took_s.append(monotonic_s() - began_s)
    return min(took_s) <= QUICK_S


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


def _random(rng: numpy.random.Generator, port: TensorSpec, num_rows: int = PROBE_ROWS) -> Array:
    """Rows to try a port with: whole numbers are 0 or 1, so that they may be indices."""
    shape = (num_rows, *(length if length >= 0 else 2 for length in port.shape[1:]))
    kind = numpy.dtype(NUMPY[DTYPE_NAMES[port.dtype]])
    values = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
    return values.astype(kind)


def _is_close(found: Array, expected: Array) -> bool:
    if found.dtype.kind != "f":
        return numpy.array_equal(found, expected)
    return numpy.allclose(found, expected, rtol=PROBE_RTOL, atol=PROBE_ATOL, equal_nan=True)
