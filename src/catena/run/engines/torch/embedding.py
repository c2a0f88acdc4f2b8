"""Text embeddings by encoders in safetensors with a Hugging Face tokenizer file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from catena.core.errors import FormatError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.run.encoding import embedding, texts
from catena.run.encoding.embedding import Session
from catena.run.engines.torch import runtime
from catena.run.engines.torch.runtime import library

__all__ = ["Session", "load"]

# Beside twice the weights: an encoder of 91 MB grew memory by 187 MB from 32 bits, by 281 MB from 16 (2026-12-01).
MEMORY_BYTES = 128 << 20


def load(model: StoredModel, placement: Placement) -> Session:
    """Load weights and tokenizer. Raises FormatError, ResourceError."""
    tokenizer = texts.read_tokenizer(model)
    network = runtime.opened(model, placement, "AutoModel")
    taken = texts.INPUTS & set(inspect.signature(network.forward).parameters)
    if not {"input_ids", "attention_mask"} <= taken:
        raise FormatError(f"{model.name} is no encoder of text", hint=runtime.verify_hint(model))

    def encode(feeds: Mapping[str, Any]) -> Any:
        library.set_num_threads(placement.threads)
        try:
            with library.inference_mode():
                batch = {name: library.from_numpy(feeds[name]).to(network.device) for name in taken}
                return network(**batch).last_hidden_state.float().cpu().numpy()
        except (RuntimeError, IndexError, ValueError) as error:
            raise runtime.broken(error) from error

    memory_bytes = MEMORY_BYTES + 2 * max(
        runtime.weights_bytes(network), sum(file.size_bytes for file in model.manifest.files)
    )
    facts = embedding.facts_of(model, placement, runtime.name(), str(network.device), memory_bytes)
    return Session(encode, tokenizer, model, facts)
