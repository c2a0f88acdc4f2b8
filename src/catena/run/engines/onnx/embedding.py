"""Text embeddings by ONNX encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catena.core.errors import EngineError, FormatError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.run.encoding import embedding, texts
from catena.run.encoding.embedding import OUTPUT, Session
from catena.run.engines.onnx import runtime

__all__ = ["Session", "load", "refusal"]

refusal = embedding.refusal


def load(model: StoredModel, placement: Placement) -> Session:
    """Load weights and tokenizer. Raises FormatError."""
    runner, tokenizer = runtime.opened(model, placement), texts.read_tokenizer(model)
    inputs, outputs = ({node.name for node in nodes} for nodes in (runner.get_inputs(), runner.get_outputs()))
    if not inputs <= texts.INPUTS or OUTPUT not in outputs:
        raise FormatError(
            f"{model.name} has not the inputs and outputs of a text encoder", hint=runtime.verify_hint(model)
        )

    def encode(feeds: Mapping[str, Any]) -> Any:
        try:
            return runner.run([OUTPUT], {name: feeds[name] for name in inputs})[0]
        except runtime.ERRORS as error:
            raise EngineError("onnxruntime failed on an input") from error

    memory_bytes = texts.MEMORY_FACTOR * model.path("weights").stat().st_size
    facts = embedding.facts_of(model, placement, runtime.name(), "cpu", memory_bytes)
    batch_rows = 1 if runtime.quantises_batches(model) else texts.BATCH_ROWS
    return Session(encode, tokenizer, model, facts, batch_rows)
