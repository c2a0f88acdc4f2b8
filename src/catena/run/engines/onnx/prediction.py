"""Any ONNX model from named arrays to named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catena.core.errors import EngineError, FormatError, InputError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement, SessionFacts
from catena.run.engines.onnx import runtime
from catena.run.predicting import arrays
from catena.run.predicting.arrays import Array
from catena.run.predicting.batching import Stop
from catena.run.predicting.session import Session, check_ports, rows_are_apart, runs_quickly

__all__ = ["Session", "load", "refusal"]

# Weights, their prepacked copy, and the arena of one run; a session of even the smallest model takes some megabytes.
_MEMORY_FACTOR, _MEMORY_BYTES = 4, 8 << 20
# Nodes whose work may depend on the values of an input.
DEPENDING = (
    *("Loop", "Scan", "If", "SequenceMap", "Range", "ConstantOfShape", "Expand", "Tile", "Pad", "Resize", "Upsample"),
    *("NonZero", "OneHot", "Compress", "Unique", "NonMaxSuppression"),
)


refusal = arrays.refusal


def load(model: StoredModel, placement: Placement) -> Session:
    """Load the weights, and try whether requests may be computed together. Raises FormatError."""
    opened = runtime.opened(model, placement)
    check_ports(model, *([node.name for node in nodes] for nodes in (opened.get_inputs(), opened.get_outputs())))
    for found in (opened.get_inputs(), opened.get_outputs()):
        if strange := [node.name for node in found if not node.type.startswith("tensor(")]:
            raise FormatError(f"{strange[0]} of {model.name} is not a plain array")
    runner = _Runner(opened)
    can_share = placement.batch_rows > 1 and not runtime.quantises_batches(model) and rows_are_apart(runner, model)
    is_quick = can_share and not runtime.uses(model, *DEPENDING) and runs_quickly(runner, model, placement.batch_rows)
    facts = SessionFacts(
        engine=runtime.name(),
        device="cpu",
        slots=max(placement.slots, placement.batch_rows),
        context_tokens=0,
        memory_bytes=_MEMORY_BYTES + _MEMORY_FACTOR * model.path("weights").stat().st_size,
    )
    return Session(runner, model, facts, placement, can_share=can_share, is_quick=is_quick)


class _Runner:
    """An InferenceSession; a run that nobody wants any more is ended between two nodes."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def run(self, feeds: Mapping[str, Array], wanted: tuple[str, ...], stop: Stop) -> list[Array]:
        options = runtime.library.RunOptions()

        def terminate() -> None:
            options.terminate = True

        stop.act = terminate
        if stop.is_set:
            raise EngineError("nobody waits for this any more")
        try:
            return self._opened.run(list(wanted), feeds, options)
        except runtime.BAD_VALUE as error:
            raise InputError("the model cannot take these values or shapes") from error
        except runtime.ERRORS as error:
            raise EngineError("onnxruntime failed on an input") from error
