"""Measures of routing between a weak and a strong model: APGR and CPT, as RouteLLM (Ong 2024) defines them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from catena.core.errors import InputError


class Measured(Struct, frozen=True):
    """`apgr`: area of the gap recovered over the share of strong calls. `cpt*`: share of strong calls, 0..1, that
    recovers so many percent of the gap. `best`: highest quality at any share, and `at` that share.
    """

    apgr: float
    cpt50: float
    cpt80: float
    cpt100: float
    best: float
    at: float


def measured(scores: Sequence[float], weak: Sequence[float], strong: Sequence[float]) -> Measured:
    """Prompts of the highest score go to the strong model first; those of one score share its gain evenly.

    The area is by the trapezoid rule over all n + 1 shares. Raises InputError if the strong model is no better.
    """
    count = len(scores)
    if not count or not len(weak) == len(strong) == count:
        raise InputError("scores and outcomes are not of the same prompts")
    low, high = sum(weak) / count, sum(strong) / count
    if high <= low:
        raise InputError("the strong model is no better than the weak one here: there is no gap to recover")
    order = sorted(range(count), key=lambda place: -scores[place])
    quality, start = [low], 0
    while start < count:
        end = start
        while end < count and scores[order[end]] == scores[order[start]]:
            end += 1
        step = sum(strong[place] - weak[place] for place in order[start:end]) / count / (end - start)
        for _ in range(start, end):
            quality.append(quality[-1] + step)
        start = end
    gap = [(one - low) / (high - low) for one in quality]
    area = sum(one + two for one, two in pairwise(gap)) / 2 / count
    shares = [next(place for place, one in enumerate(gap) if one >= want - 1e-9) / count for want in (0.5, 0.8, 1.0)]
    best = max(range(count + 1), key=lambda place: quality[place])
    return Measured(area, *shares, best=quality[best], at=best / count)
