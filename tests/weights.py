"""Small GGUF files for tests, with a valid header and real tensor bytes.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
"""

from __future__ import annotations

import random
from pathlib import Path

ALIGNMENT = 32
_STRING, _UINT32, _F32 = 8, 4, 0


def write_gguf(path: Path, *, num_values: int = 4096, seed: int = 0, **facts: str | int) -> Path:
    """Write a GGUF with one float32 tensor of `num_values` random bytes each four; `facts` go into its metadata."""
    merged: dict[str, str | int] = {
        "general.architecture": "llama",
        "llama.context_length": 128,
        "llama.block_count": 1,
        "llama.embedding_length": 32,
        "llama.attention.head_count": 4,
        **facts,
    }
    pairs = b"".join(_text(key) + _value(value) for key, value in merged.items())
    tensor = _text("token_embd.weight") + _number(1, 4) + _number(num_values, 8) + _number(_F32, 4) + _number(0, 8)
    head = b"GGUF" + _number(3, 4) + _number(1, 8) + _number(len(merged), 8) + pairs + tensor
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + random.Random(seed).randbytes(4 * num_values))
    return path


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _text(value: str) -> bytes:
    return _number(len(value.encode()), 8) + value.encode()


def _value(value: str | int) -> bytes:
    return _number(_STRING, 4) + _text(value) if isinstance(value, str) else _number(_UINT32, 4) + _number(value, 4)
