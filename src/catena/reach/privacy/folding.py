"""Undoes what hides text from detectors, with an exact map from every folded character back to the original."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Folded(Struct, frozen=True):
    """A view of a text. Character `i` stands for `original[starts[i]:ends[i]]`; None: the text itself, unchanged.

    `how` names what was undone, e.g. `fold` or `base64`; of a decoded view every span is worth the whole encoded run
    where it cannot be told more exactly.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    how: str = "fold"

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original `text[start:end]` is; `start < end`."""
        if self.starts is None or self.ends is None:
            return start, end
        return min(self.starts[start:end]), max(self.ends[start:end])


def views(text: str) -> list[Folded]:
    """The views of `text` that detectors look at: first the folded whole, then what is encoded in it."""
    return [Folded(text)]
