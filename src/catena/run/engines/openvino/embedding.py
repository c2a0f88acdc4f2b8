"""Text embeddings by encoders in OpenVINO IR with a Hugging Face tokenizer file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catena.core.errors import EngineError, FormatError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.run.encoding import embedding, texts
from catena.run.encoding.embedding import OUTPUT, Session
from catena.run.engines.openvino import runtime

__all__ = ["Session", "load", "refusal"]

refusal = embedding.refusal


def load(model: StoredModel, placement: Placement) -> Session:
    """Compile the weights and read the tokenizer. Raises FormatError, ResourceError."""
    opened, tokenizer = runtime.opened(model, placement), texts.read_tokenizer(model)
    compiled = opened.compiled
    inputs = [names & texts.INPUTS for names in runtime.port_names(compiled.inputs)]
    if not all(inputs) or not any(OUTPUT in names for names in runtime.port_names(compiled.outputs)):
        raise FormatError(
            f"{model.name} has not the inputs and outputs of a text encoder", hint=runtime.verify_hint(model)
        )
    taken = [names.pop() for names in inputs]
    request = compiled.create_infer_request()

    def encode(feeds: Mapping[str, Any]) -> Any:
        try:
            return request.infer({name: feeds[name] for name in taken})[OUTPUT]
        except RuntimeError as error:
            raise EngineError("OpenVINO failed on an input") from error

    where = runtime.execution_device(compiled)
    facts = embedding.facts_of(model, placement, runtime.name(), where, runtime.memory_bytes(model))
    return Session(encode, tokenizer, model, facts, 1 if opened.quantises_batches else texts.BATCH_ROWS)
