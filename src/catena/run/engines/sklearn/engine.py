"""The engine itself: which models it takes, and how a scikit-learn model becomes a session that predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread

from catena.core.errors import EngineError, FormatError, InputError, MissingExtraError, ResourceError
from catena.core.manifest import StoredModel
from catena.core.messages.predict import DTYPE_NAMES
from catena.core.protocols import Placement, SessionFacts
from catena.run.engines.sklearn import reading
from catena.run.predicting import arrays
from catena.run.predicting.arrays import Array, numpy, random_rows
from catena.run.predicting.batching import Stop
from catena.run.predicting.session import Session, rows_are_apart

try:
    import threadpoolctl
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "threadpoolctl", "sklearn") from error

_limits: Any = threadpoolctl.threadpool_limits
# Python objects around the arrays of the file, which may be compressed. A guess on the safe side: one forest of 16 MB
# grew resident memory by 48 MB (2026-11-24).
MEMORY_FACTOR, MEMORY_BYTES = 6, 16 << 20
_METHODS = {"label": "predict", "value": "predict", "probabilities": "predict_proba"}


class Engine:
    """scikit-learn on the CPU."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for a .skops model whose ports are known; else why not."""
        manifest = model.manifest
        if manifest.format != "skops":
            return f"sklearn reads skops, not {manifest.format}"
        if manifest.task != "predict":
            return f"sklearn does not {manifest.task}, which is the task of {model.name}"
        if strange := [port.name for port in manifest.signature.outputs if port.name not in _METHODS]:
            return f"{strange[0]} of {model.name} is no output of a scikit-learn model"
        return arrays.refusal(model)

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """Load on the CPU. Raises FormatError, UnsupportedError for types that are not trusted, ResourceError for a
        device that is not there."""
        if placement.device != "cpu":
            raise ResourceError(f"sklearn has no device {placement.device!r} here", hint="use device cpu")
        return await anyio.to_thread.run_sync(_load, model, placement)


def _load(model: StoredModel, placement: Placement) -> Session:
    runner = _Runner(reading.read(model), model, placement.threads)
    runner.try_once(model)
    facts = SessionFacts(
        engine=f"sklearn {reading.library.__version__}",
        device="cpu",
        slots=max(placement.slots, placement.batch_rows),
        context_tokens=0,
        memory_bytes=MEMORY_BYTES + MEMORY_FACTOR * model.path("weights").stat().st_size,
    )
    can_share = placement.batch_rows > 1 and rows_are_apart(runner, model)
    return Session(runner, model, facts, placement, can_share=can_share, is_quick=False)


class _Runner:
    """A fitted model; its columns come in the order in which it was fitted."""

    def __init__(self, fitted: Any, model: StoredModel, threads: int) -> None:
        self._fitted = fitted
        self._dtypes = {
            port.name: arrays.NUMPY.get(DTYPE_NAMES[port.dtype]) for port in model.manifest.signature.outputs
        }
        self._threads = threads
        self._width = model.manifest.signature.inputs[0].shape[-1]

    def run(self, feeds: Mapping[str, Array], wanted: tuple[str, ...], stop: Stop) -> list[Array]:
        (rows,) = feeds.values()
        if rows.ndim != 2 or rows.shape[1] != self._width:
            raise InputError(f"the model takes rows of {self._width} numbers", param="x")
        if not len(rows):
            raise InputError("there is nothing to predict from", param="x")
        found: list[Array] = []
        try:
            with _limits(self._threads):
                for name in wanted:
                    if stop.is_set:
                        raise EngineError("nobody waits for this any more")
                    found.append(self._output(name, rows))
        except ValueError as error:
            raise InputError("the model cannot take these values, such as ones that are missing or endless") from error
        except (TypeError, AttributeError, IndexError, KeyError, ArithmeticError) as error:
            raise EngineError("scikit-learn failed on an input") from error
        return found

    def try_once(self, model: StoredModel) -> None:
        """Raises FormatError if the model does not give what its manifest states."""
        stated = model.manifest.signature
        rng = numpy.random.default_rng(0)
        try:
            found = self.run(
                {"x": random_rows(rng, stated.inputs[0])}, tuple(port.name for port in stated.outputs), Stop()
            )
        except (InputError, EngineError) as error:
            raise FormatError(f"{model.name} cannot predict with this version of scikit-learn") from error
        for port, array in zip(stated.outputs, found, strict=True):
            if array.ndim != len(port.shape) or array.shape[1:] != port.shape[1:]:
                raise FormatError(f"{port.name} of {model.name} has not the shape of its manifest")

    def _output(self, name: str, rows: Array) -> Array:
        found = numpy.asarray(getattr(self._fitted, _METHODS[name])(rows))
        dtype = self._dtypes[name]
        return found if dtype is None else found.astype(dtype)
