"""Finds many texts in bytes or in text at once, in time that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

S = TypeVar("S", bytes, str)
# So few texts are looked for one after the other; a shorter text always is.
FEW = 48
_SHORT = 8
# The haystack is sampled in every so many places at most: more would need more of each needle in the table.
_MAX_STEP = 8


class Finder(Generic[S]):
    """Looks for `needles`, each with a number. Of more than FEW, the pieces of each needle that one sample of the
    haystack in every `step` places must hit are kept in a table, so the haystack is only sampled.
    """

    def __init__(self, needles: Iterable[tuple[S, int]]) -> None:
        pairs = dict(needles)
        is_few = len(pairs) <= FEW
        self._single = [pair for pair in pairs.items() if is_few or len(pair[0]) < _SHORT]
        many = {} if is_few else {needle: number for needle, number in pairs.items() if len(needle) >= _SHORT}
        least = min(map(len, many), default=_SHORT)
        self._width = max(least // 2, least - _MAX_STEP + 1)
        self._step = least - self._width + 1
        self._lengths = sorted(set(map(len, many)))
        self._many = many
        # Piece -> the places in a needle that it stands at, one bit each.
        self._table: dict[S, int] = {}
        for needle in many:
            for at in range(self._step):
                piece = needle[at : at + self._width]
                self._table[piece] = self._table.get(piece, 0) | 1 << at

    def find(self, hay: S) -> set[int]:
        """The numbers of the needles in `hay`."""
        found = {number for needle, number in self._single if needle in hay}
        if not self._many:
            return found
        width, step, table = self._width, self._step, self._table
        places = range(0, len(hay) - width + 1, step)
        # One pass in C; only where something is hit are the places looked at one by one.
        hits = table.keys() & {hay[at : at + width] for at in places}
        if hits:
            for at in places:
                piece = hay[at : at + width]
                if piece in hits:
                    for offset in range(step):
                        if table[piece] >> offset & 1:
                            found.update(self._whole(hay, at - offset))
        return found

    def _whole(self, hay: S, start: int) -> Iterable[int]:
        if start >= 0:
            for length in self._lengths:
                number = self._many.get(hay[start : start + length])
                if number is not None:
                    yield number
