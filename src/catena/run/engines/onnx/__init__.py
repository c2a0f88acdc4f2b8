"""ONNX Runtime on the CPU: text embeddings, reranking, labels of texts, speech to text, and any model that predicts."""

from catena.run.engines.onnx.engine import Engine

__all__ = ["Engine"]
