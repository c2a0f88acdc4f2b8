"""Texts to vectors: what is asked of an embedding model and what comes back."""

from __future__ import annotations

from msgspec import Struct

from catena.core.messages.events import Timings, Usage


class EmbedRequest(Struct, frozen=True, tag="embed"):
    """Texts, or their token ids, to embed with `model`; `dimensions` asks for shorter vectors, where trained for it."""

    model: str
    inputs: tuple[str, ...] | tuple[tuple[int, ...], ...]
    dimensions: int | None = None


class Embedded(Struct, frozen=True):
    """One vector per input: `vectors[i]` holds `width` little-endian float32 values, L2-normalised."""

    vectors: tuple[bytes, ...]
    width: int
    usage: Usage
    timings: Timings = Timings()
