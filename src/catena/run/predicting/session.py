"""A model from named arrays to named arrays, behind any library; its requests are one run where rows do not touch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from catena.core.clock import monotonic_s
from catena.core.errors import EngineError, FormatError, InputError
from catena.core.manifest import StoredModel
from catena.core.messages import Prediction, PredictRequest, Timings
from catena.core.protocols import Placement, SessionFacts
from catena.run.predicting.arrays import PROBE_ROWS, Array, array_of, is_close, numpy, random_rows, tensor_of
from catena.run.predicting.batching import Batcher, Call, Done, Stop

# Rows are tried alone and together before requests may share a run; a larger row is not tried.
MAX_PROBE_ELEMENTS = 1 << 20
# Handing a run to a thread and taking it back costs about 0.1 ms, and under load a wait for Python's lock.
QUICK_S, NUM_TIMINGS = 0.0005, 5


class Runner(Protocol):
    """A loaded model of some library."""

    def run(self, feeds: Mapping[str, Array], wanted: tuple[str, ...], stop: Stop, /) -> list[Array]:
        """The outputs wanted. Calls do not overlap. Raises InputError for values or shapes that the model cannot take,
        EngineError."""
        ...


class Session:
    """A model, one run at a time on all of its threads. `can_share`: requests of one shape may be one run; `is_quick`:
    it is made on the event loop."""

    def __init__(
        self,
        runner: Runner,
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
        self._runner: Runner | None = runner
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
        if stop.is_set or self._runner is None:
            raise EngineError("nobody waits for this any more")
        first = calls[0]
        feeds = first.feeds
        if len(calls) > 1:
            feeds = {name: numpy.concatenate([call.feeds[name] for call in calls]) for name in feeds}
        began_s = monotonic_s()
        try:
            found = self._runner.run(feeds, first.wanted, stop)
        except (InputError, EngineError):
            if len(calls) > 1:
                return self._one_by_one(calls, stop)
            raise
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


def rows_are_apart(runner: Runner, model: StoredModel) -> bool:
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
    feeds = {port.name: random_rows(rng, port) for port in signature.inputs}
    wanted = tuple(port.name for port in signature.outputs)
    orders = ([0], [1], [2], [0, 1, 2], [2, 0])
    try:
        runs = [runner.run({name: array[order] for name, array in feeds.items()}, wanted, Stop()) for order in orders]
    except (InputError, EngineError):
        return False
    alone = [[run[index] for run in runs[:PROBE_ROWS]] for index in range(len(signature.outputs))]
    for order, run in zip(orders, runs, strict=True):
        for index, found in enumerate(run):
            expected = [alone[index][row] for row in order]
            if any(one.shape[0] != 1 for one in alone[index]) or found.shape[0] != len(order):
                return False
            if not is_close(found, numpy.concatenate(expected)):
                return False
    return True


def runs_quickly(runner: Runner, model: StoredModel, num_rows: int) -> bool:
    """Whether a run of up to `num_rows` rows holds the event loop for QUICK_S at most, whatever the values are.

    So lengths are fixed but for the rows. Whoever calls knows that rows are apart and that no value makes more work.
    """
    inputs = model.manifest.signature.inputs
    if any(-1 in port.shape[1:] for port in inputs):
        return False
    rng = numpy.random.default_rng(0)
    feeds = {port.name: random_rows(rng, port, num_rows) for port in inputs}
    wanted = tuple(port.name for port in model.manifest.signature.outputs)
    took_s: list[float] = []
    for _ in range(NUM_TIMINGS):
        began_s = monotonic_s()
        runner.run(feeds, wanted, Stop())
        took_s.append(monotonic_s() - began_s)
    return min(took_s) <= QUICK_S


def check_ports(model: StoredModel, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raises FormatError where the library finds other inputs or outputs than the manifest states."""
    signature = model.manifest.signature
    for found, stated in ((inputs, signature.inputs), (outputs, signature.outputs)):
        if set(found) != {port.name for port in stated}:
            raise FormatError(
                f"{model.name} has not the ports of its manifest", hint=f"run `catena verify {model.name}`"
            )
