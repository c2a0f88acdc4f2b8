"""What the engine must know of a GGUF file before loading it: context, cache size per token, template, vocabulary."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from catena.core.errors import FormatError
from catena.store.formats import gguf


class Header(Struct, frozen=True):
    """Facts of a GGUF file; `cache_token_bytes` is the size of one token's keys and values in 16-bit floats, and
    `head_widths` how many of these numbers stand together.

    `reads` is what a projector lets the model read besides text: `image`, `audio`. `original_tokens` is what it was
    trained for before positions were scaled (0: not stated), and `has_rope` whether its positions are rotary.
    """

    context_tokens: int
    cache_token_bytes: int
    num_vocabulary: int
    template: str
    num_heads: int = 1
    embedding_width: int = 0
    reads: frozenset[str] = frozenset()
    head_widths: tuple[int, ...] = ()
    original_tokens: int = 0
    has_rope: bool = False


def read(path: Path) -> Header:
    """The header of the GGUF file at `path`. Raises FormatError."""
    try:
        found = gguf.read(path)
    except OSError as error:
        raise FormatError("the weights cannot be read", hint="run `catena verify` on the model") from error
    return Header(
        context_tokens=found.context_tokens,
        cache_token_bytes=sum(found.num_kv_heads) * (found.key_length + found.value_length) * 2,
        num_vocabulary=found.num_vocabulary,
        template=found.chat_template,
        embedding_width=found.embedding_width,
        head_widths=(found.key_length, found.value_length),
        num_heads=max(1, found.number("attention.head_count")),
        original_tokens=found.number("rope.scaling.original_context_length"),
        has_rope=any(f"{found.architecture}.rope.{key}" in found.metadata for key in ("dimension_count", "freq_base")),
    )
