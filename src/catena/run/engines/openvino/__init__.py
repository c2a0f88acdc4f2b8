"""OpenVINO on CPU, GPU and NPU: models that predict, and text embeddings; nothing that generates."""

from catena.run.engines.openvino.engine import Engine

__all__ = ["Engine"]
