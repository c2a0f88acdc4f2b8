"""llama.cpp: GGUF models that generate, batched over slots, in this process."""

from catena.run.engines.llama_cpp.engine import Engine

__all__ = ["Engine"]
