"""The engine itself: which models it takes, and what kind of session each becomes."""

from __future__ import annotations

import anyio.to_thread

from catena.core.manifest import StoredModel
from catena.core.protocols import Placement
from catena.run.engines.openvino import embedding, prediction

_KINDS = {"embed": embedding, "predict": prediction}
Session = embedding.Session | prediction.Session


class Engine:
    """OpenVINO on the placement's device."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for an OpenVINO model of a task that is known here, or an ONNX model that predicts; else why not."""
        manifest = model.manifest
        if manifest.format not in ("openvino", "onnx"):
            return f"openvino reads openvino and onnx, not {manifest.format}"
        if manifest.format == "onnx" and manifest.task != "predict":
            return f"openvino reads onnx models that predict only, not those that {manifest.task}"
        kind = _KINDS.get(manifest.task)
        if kind is None:
            return f"openvino does not {manifest.task}, which is the task of {model.name}"
        return kind.refusal(model)

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """Load on the placement's device. Raises FormatError for files that are not what they should be, ResourceError
        for a device that is not there or cannot run the model."""
        return await anyio.to_thread.run_sync(_KINDS[model.manifest.task].load, model, placement)
