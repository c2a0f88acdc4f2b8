"""OpenVINO on CPU, GPU and NPU: models that predict, text embeddings, and text generation (openvino-genai)."""

from catena.run.engines.openvino.engine import Engine

__all__ = ["Engine"]
