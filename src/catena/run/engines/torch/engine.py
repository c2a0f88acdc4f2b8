"""The engine itself: which safetensors models it takes, and what kind of session each becomes."""

from __future__ import annotations

import anyio.to_thread

from catena.core.errors import UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.run.encoding import embedding as encoders
from catena.run.engines.torch import embedding, generation, runtime

_KINDS = {"embed": embedding, "generate": generation}
Session = embedding.Session | generation.Session
# Weights in other forms need kernels of libraries that are not here.
FORMS = frozenset({"", "BF16", "F16", "F32", "F64"})


class Engine:
    """transformers on the placement's device."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for a safetensors model that generates or embeds, with the files that this needs; else why not."""
        manifest = model.manifest
        if manifest.format != "safetensors":
            return f"torch reads safetensors, not {manifest.format}"
        if manifest.task not in _KINDS:
            return f"torch does not {manifest.task}, which is the task of {model.name}"
        if model.fact("needs_code", False):
            return f"{model.name} is made of code that came with it, and none is run"
        form = model.fact("quantisation", "")
        if form not in FORMS:
            return f"the weights of {model.name} are {form}; torch reads {', '.join(sorted(FORMS - {''}))}"
        missing = {"weights", "config", "tokenizer"} - {file.role for file in manifest.files}
        if missing:
            return f"{model.name} has no file of role {sorted(missing)[0]}"
        return encoders.refusal(model) if manifest.task == "embed" else None

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """Load on the placement's device. Raises FormatError for files that are not what they should be, ResourceError
        for a device that is not there or has too little memory, UnsupportedError for adapters."""
        if placement.adapters:
            raise UnsupportedError("torch loads no adapters", hint="use a GGUF model")
        runtime.device(placement.device)
        return await anyio.to_thread.run_sync(_KINDS[model.manifest.task].load, model, placement)
