"""PyTorch through transformers: safetensors folders that generate or embed; no code of a repository is ever run."""

from catena.run.engines.torch.engine import Engine

__all__ = ["Engine"]
