"""What the store tells: rows of a list, progress of long work, results of pull and collect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from catena.core.manifest import Manifest

How = Literal["copied", "linked", "cloned", "present"]


class Row(Struct, frozen=True):
    """One named model: its signed manifest, when the name was given (Unix nanoseconds), bytes of its files."""

    name: str
    digest: str
    manifest: Manifest
    added_at_ns: int
    size_bytes: int


class Progress(Struct, frozen=True):
    """How far long work has come; `total_bytes` is None where nobody knows it, as is the rate of the last seconds."""

    phase: Literal["download", "read", "store", "check"]
    what: str
    done_bytes: int
    total_bytes: int | None
    rate_bytes_s: float | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this rate; None where rate or total are unknown."""
        if self.total_bytes is None or not self.rate_bytes_s:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.rate_bytes_s


Report = Callable[[Progress], None]


class Pulled(Struct, frozen=True):
    """What a pull did. `how` is how the weights came to lie in the store, `bytes_stored` what it did not have yet."""

    row: Row
    is_new: bool
    how: How
    bytes_stored: int
    bytes_downloaded: int


class Collected(Struct, frozen=True):
    """What a collection removed, or would remove."""

    num_files: int
    num_bytes: int


def silent(_: Progress) -> None:
    """Tells nobody."""
