"""ONNX Runtime on the CPU: text embeddings, and any model that predicts."""

from catena.run.engines.onnx.engine import Engine

__all__ = ["Engine"]
