"""llama.cpp: GGUF models that generate, batched over slots, each in a process of its own."""

from catena.run.engines.llama_cpp.engine import Engine

__all__ = ["Engine"]
