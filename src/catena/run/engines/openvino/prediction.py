"""Models from named arrays to named arrays: OpenVINO IR, and ONNX as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catena.core.errors import EngineError, InputError
from catena.core.manifest import StoredModel, TensorSpec
from catena.core.protocols import Placement, SessionFacts
from catena.run.engines.openvino import runtime
from catena.run.predicting import arrays
from catena.run.predicting.arrays import Array
from catena.run.predicting.batching import Stop
from catena.run.predicting.session import Session, check_ports, rows_are_apart

__all__ = ["Session", "load", "refusal"]

refusal = arrays.refusal


def load(model: StoredModel, placement: Placement) -> Session:
    """Compile the model, and try whether requests may be computed together. Raises FormatError, ResourceError."""
    opened = runtime.opened(model, placement)
    compiled = opened.compiled
    signature = model.manifest.signature
    inputs = _named(compiled.inputs, signature.inputs)
    outputs = _named(compiled.outputs, signature.outputs)
    check_ports(model, inputs, outputs)
    runner = _Runner(compiled, inputs, outputs)
    can_share = placement.batch_rows > 1 and not opened.quantises_batches and rows_are_apart(runner, model)
    facts = SessionFacts(
        engine=runtime.name(),
        device=runtime.execution_device(compiled),
        slots=max(placement.slots, placement.batch_rows),
        context_tokens=0,
        memory_bytes=runtime.memory_bytes(model),
    )
    return Session(runner, model, facts, placement, can_share=can_share, is_quick=False)


def _named(ports: Any, stated: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """The library's ports under the names that the manifest has for them; one that it has not under one of its own."""
    known = [port.name for port in stated]
    found: dict[str, Any] = {}
    for port, names in zip(ports, runtime.port_names(ports), strict=True):
        found[next((name for name in known if name in names), min(names, default=""))] = port
    return found


class _Runner:
    """A compiled model with one request, which is used again and again."""

    def __init__(self, compiled: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = inputs
        self._outputs = outputs

    def run(self, feeds: Mapping[str, Array], wanted: tuple[str, ...], stop: Stop) -> list[Array]:
        for name, array in feeds.items():
            if not self._inputs[name].get_partial_shape().compatible(runtime.library.PartialShape(list(array.shape))):
                raise InputError("the model cannot take these shapes", param=name)
        stop.act = self._request.cancel
        if stop.is_set:
            raise EngineError("nobody waits for this any more")
        try:
            found = self._request.infer({self._inputs[name]: array for name, array in feeds.items()})
        except RuntimeError as error:
            raise EngineError("OpenVINO failed on an input") from error
        return [found[self._outputs[name]] for name in wanted]
