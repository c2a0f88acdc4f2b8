"""The learned difficulty of a prompt: a small file of weights, read within bounds, scored in pure Python."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import FormatError, ResourceError
from catena.reach.routing.features import NAMES, features_of

FORMAT, VERSION = "catena-difficulty", 1
MAX_BYTES = 1 << 20

# What is expected before any data: quality gained by the strong model for one unit of a feature. Small models are known
# to trail in code, mathematics, extraction and reasoning, and hardly in writing and role play (MT-bench, Zheng 2023).
EXPECTED = {
    "words": 0.05, "numbers": 0.04, "sentences": 0.02, "names": 0.01, "fractions": 0.03, "symbols": 0.06,
    "largest number": 0.03, "numbers by sentences": 0.02, "ratio": 0.03, "comparison": 0.02, "condition": 0.02,
    "time": 0.01, "mathematics": 0.08, "code": 0.10, "form": 0.06, "logic": 0.05, "writing": -0.06, "role": -0.06,
    "essay": -0.06, "follow-up": 0.02, "negation": 0.02,
}  # fmt: skip


class Difficulty(Struct, frozen=True, kw_only=True):
    """score = bias + sum of weight * feature: the quality in 0..1 that the strong model is expected to add.

    `provenance` says what it was fitted to: rows, digest of the file, mean qualities.
    """

    format: str = FORMAT
    version: int = VERSION
    weights: dict[str, float]
    bias: float
    provenance: dict[str, str | int | float]

    @classmethod
    def expected(cls) -> Difficulty:
        """What is expected without any data."""
        return cls(weights=EXPECTED, bias=0.0, provenance={"rows": 0})

    @classmethod
    def load(cls, path: Path | str) -> Difficulty:
        """Raises FormatError for another format, version or feature, ResourceError if it cannot be read."""
        name = Path(path).name
        try:
            with Path(path).open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise ResourceError(f"{name} cannot be read: {error.strerror}") from error
        hint = "make it with `catena route fit TRAIN.jsonl -o FILE`"
        try:
            if len(data) > MAX_BYTES:
                raise ValueError("too large")
            head: Any = msgspec.json.decode(data)
            if not isinstance(head, dict) or head.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
                raise ValueError("another format")
            if head.get("version") != VERSION:  # pyright: ignore[reportUnknownMemberType]
                raise FormatError(f"{name} is of another version; this Catena reads {VERSION}", hint=hint)
            read = msgspec.convert(head, cls)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            raise FormatError(f"{name} is not a file of difficulty", hint=hint) from error
        if unknown := sorted(set(read.weights) - set(NAMES)):
            raise FormatError(f"{name} has weights for features unknown here: {len(unknown)}", hint=hint)
        if not all(math.isfinite(one) and abs(one) < 1e6 for one in (read.bias, *read.weights.values())):
            raise FormatError(f"{name} has numbers out of range", hint=hint)
        return read

    def save(self, path: Path | str) -> None:
        """Whole or not at all. Raises ResourceError if it cannot be written."""
        target = Path(path)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with draft.open("wb") as stream:
                stream.write(msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(target)
        except OSError as error:
            raise ResourceError(f"{target.name} cannot be written: {error.strerror}") from error
        finally:
            draft.unlink(missing_ok=True)

    def score(self, prompt: str) -> float:
        """Higher: the strong model is needed more. Comparable between prompts of one file only."""
        weights = self.weights
        return self.bias + sum(
            weights.get(name, 0.0) * value for name, value in zip(NAMES, features_of(prompt), strict=True)
        )
