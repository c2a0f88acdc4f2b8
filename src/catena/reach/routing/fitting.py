"""Fits difficulty to outcomes: ridge regression drawn to what is expected, so that it holds beyond its benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from catena.core.errors import InputError
from catena.reach.routing.difficulty import EXPECTED, Difficulty
from catena.reach.routing.features import NAMES, features_of

MIN_ROWS, MAX_ROWS = 20, 200_000
# How many prompts it takes to outweigh what is expected of a feature of unit variance.
RIDGE = 1000.0


class Outcome(Struct, frozen=True):
    """Quality in 0..1 of both models' answers to one prompt."""

    prompt: str
    weak: float
    strong: float


def fitted(rows: Sequence[Outcome], digest: str = "") -> Difficulty:
    """Minimises sum((gain - bias - w x)^2) + RIDGE * |w - expected|^2; pure Python, O(rows * features^2).

    Raises InputError if there are too few or too many rows, or both models always do as well.
    """
    if not MIN_ROWS <= len(rows) <= MAX_ROWS:
        raise InputError(f"{len(rows):,} outcomes; {MIN_ROWS} to {MAX_ROWS:,} are needed")
    if all(row.weak == row.strong for row in rows):
        raise InputError("both models do as well on every prompt: there is nothing to learn")
    values = [features_of(row.prompt) for row in rows]
    gains = [row.strong - row.weak for row in rows]
    size, count = len(NAMES), len(rows)
    means = [sum(column) / count for column in zip(*values, strict=True)]
    mean_gain = sum(gains) / count
    expected = [EXPECTED.get(name, 0.0) for name in NAMES]
    left = [[RIDGE if one == two else 0.0 for two in range(size)] for one in range(size)]
    right = [0.0] * size
    for value, gain in zip(values, gains, strict=True):
        centred = [one - mean for one, mean in zip(value, means, strict=True)]
        rest = gain - mean_gain - sum(one * weight for one, weight in zip(centred, expected, strict=True))
        for place, one in enumerate(centred):
            if one:
                right[place] += one * rest
                line = left[place]
                for other in range(place, size):
                    line[other] += one * centred[other]
    for one in range(size):
        for two in range(one):
            left[one][two] = left[two][one]
    weights = [before + step for before, step in zip(expected, solved(left, right), strict=True)]
    bias = mean_gain - sum(weight * mean for weight, mean in zip(weights, means, strict=True))
    return Difficulty(
        weights={name: round(weight, 6) for name, weight in zip(NAMES, weights, strict=True)},
        bias=round(bias, 6),
        provenance={
            "rows": count,
            "sha256": digest,
            "weak": round(sum(row.weak for row in rows) / count, 4),
            "strong": round(sum(row.strong for row in rows) / count, 4),
        },
    )


def solved(left: list[list[float]], right: list[float]) -> list[float]:
    """x of `left @ x = right`, by Gaussian elimination with pivots; `left` is square and not singular."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(left, right, strict=True)]
    for place in range(size):
        best = max(range(place, size), key=lambda one: abs(rows[one][place]))
        rows[place], rows[best] = rows[best], rows[place]
        head = rows[place]
        for line in rows[place + 1 :]:
            factor = line[place] / head[place]
            for other in range(place, size + 1):
                line[other] -= factor * head[other]
    found = [0.0] * size
    for place in range(size - 1, -1, -1):
        rest = rows[place][size] - sum(rows[place][other] * found[other] for other in range(place + 1, size))
        found[place] = rest / rows[place][place]
    return found
