"""The engine itself: which ONNX models it takes, and what kind of session each becomes."""

from __future__ import annotations

import anyio.to_thread

from catena.core.errors import ResourceError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.run.engines.onnx import classification, embedding, prediction, reranking
from catena.run.engines.onnx.speech import session as speech

_KINDS = {
    "classify": classification,
    "embed": embedding,
    "predict": prediction,
    "rerank": reranking,
    "transcribe": speech,
}
Session = classification.Session | embedding.Session | prediction.Session | reranking.Session | speech.Session


class Engine:
    """onnxruntime on the CPU."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for an ONNX model of a task that is known here, with the files that this needs; else why not."""
        manifest = model.manifest
        if manifest.format != "onnx":
            return f"onnx reads onnx, not {manifest.format}"
        kind = _KINDS.get(manifest.task)
        if kind is None:
            return f"onnx does not {manifest.task}, which is the task of {model.name}"
        return kind.refusal(model)

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """Load on the CPU. Raises FormatError for files that are not what they should be, ResourceError for a device
        that is not there."""
        if placement.device != "cpu":
            raise ResourceError(f"onnx has no device {placement.device!r} here", hint="use device cpu")
        return await anyio.to_thread.run_sync(_KINDS[model.manifest.task].load, model, placement)
