"""The file of a context judge: weights by feature, calibration, the threshold for each recall, and where it is from."""

from __future__ import annotations

import gzip
import os
import zlib
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec
from msgspec import Struct

from catena.core.errors import FormatError, ResourceError

VERSION = 1
MAX_BYTES = 64 << 20
TUNED = "privacy-context.json.gz"
RECALLS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


class Threshold(Struct, frozen=True):
    """From `margin` up a text is private, so that `recall` of private texts of unseen topics are kept."""

    recall: float
    margin: float


class Model(Struct, frozen=True, kw_only=True):
    """A linear model over `features.py`: margin = bias + sum of weight * value; P(private) = 1 / (1 + exp(-a * m - b)).

    `provenance` says what it was made of; `examples` counts the user's own that went in.
    """

    version: int
    bias: float
    weights: dict[str, float]
    slope: float  # a
    offset: float  # b
    thresholds: tuple[Threshold, ...]
    provenance: dict[str, str]
    examples: int = 0

    def threshold(self, recall: float) -> float:
        """The margin for `recall`: that of the next higher recall which was measured."""
        enough = [each for each in self.thresholds if each.recall >= recall - 1e-9]
        return min(enough or self.thresholds, key=lambda each: each.recall if enough else each.margin).margin


def read_model(path: Path) -> Model:
    """Raises FormatError if it is not such a file or of another version, ResourceError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return _decoded(stream.read(MAX_BYTES + 1), path.name)
    except OSError as error:
        raise ResourceError(f"{path.name} cannot be read: {error.strerror}") from error


def write_model(path: Path, model: Model) -> None:
    """Whole or not at all, also if the process is killed. Raises ResourceError if it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with draft.open("wb") as stream:
            stream.write(gzip.compress(msgspec.json.encode(model, order="sorted"), 9, mtime=0))
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        raise ResourceError(f"{path.name} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


@cache
def shipped() -> Model:
    """The one that comes with Catena."""
    data = resources.files("catena.reach.privacy") / "data" / "context.json.gz"
    return _decoded(data.read_bytes(), "context.json.gz")


def _decoded(data: bytes, name: str) -> Model:
    hint = "make it anew with `catena privacy gate --fit EXAMPLES.jsonl`, or delete it to use the one that ships"
    try:
        if len(data) > MAX_BYTES:
            raise ValueError("too large")
        opened = zlib.decompressobj(31)
        text = opened.decompress(data, MAX_BYTES)
        if opened.unconsumed_tail or not opened.eof:
            raise ValueError("too large or cut off")
        model = msgspec.json.decode(text, type=Model)
        numbers = [model.bias, model.slope, model.offset, *(each.margin for each in model.thresholds)]
        if not model.thresholds or not all(abs(number) < 1e6 for number in numbers):
            raise ValueError("numbers out of range")
        if max(each.recall for each in model.thresholds) < 1.0:
            raise ValueError("no threshold for full recall")
        if not all(abs(weight) < 1e6 for weight in model.weights.values()):
            raise ValueError("weights out of range")
    except (ValueError, zlib.error, msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"{name} is not the file of a context judge", hint=hint) from error
    if model.version != VERSION:
        raise FormatError(f"{name} is of version {model.version}; this Catena reads {VERSION}", hint=hint)
    return model
