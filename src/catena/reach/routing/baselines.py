"""What a router must beat: the length of the prompt, chance, and TF-IDF with a linear model."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from itertools import pairwise

import re2

_WORD = re2.compile(r"[a-z0-9']+|\p{Han}")
_PASSES, _RATE, _DECAY = 8, 0.5, 1e-3


def length(prompts: Sequence[str]) -> list[float]:
    return [float(len(prompt)) for prompt in prompts]


def chance(prompts: Sequence[str], draw: int) -> list[float]:
    """Numbers without meaning that are the same every time."""
    return [float(zlib.crc32(b"%d %d" % (draw, place))) for place in range(len(prompts))]


def tf_idf(train: Sequence[str], gains: Sequence[float], test: Sequence[str]) -> list[float]:
    """Scores of `test` by least squares on words and pairs of words, TF-IDF with unit norm, by stochastic descent."""
    counted = [_terms(prompt) for prompt in train]
    seen: dict[str, int] = {}
    for terms in counted:
        for term in terms:
            seen[term] = seen.get(term, 0) + 1
    idf = {term: math.log((1 + len(train)) / (1 + count)) + 1 for term, count in seen.items() if count > 1}
    rows = [_vector(terms, idf) for terms in counted]
    weights: dict[str, float] = {}
    bias = sum(gains) / max(1, len(gains))
    for turn in range(_PASSES):
        rate = _RATE / (1 + turn)
        for place in sorted(range(len(rows)), key=lambda one: zlib.crc32(b"%d %d" % (turn, one))):
            error = gains[place] - bias - sum(weights.get(term, 0.0) * one for term, one in rows[place].items())
            for term, one in rows[place].items():
                before = weights.get(term, 0.0)
                weights[term] = before + rate * (error * one - _DECAY * before)
    return [sum(weights.get(term, 0.0) * one for term, one in _vector(_terms(prompt), idf).items()) for prompt in test]


def _terms(prompt: str) -> dict[str, int]:
    text = prompt[:20_000].lower().encode("utf-8", "replace").decode("utf-8")
    words: list[str] = _WORD.findall(text)
    found: dict[str, int] = {}
    for term in (*words, *(f"{one} {two}" for one, two in pairwise(words))):
        found[term] = found.get(term, 0) + 1
    return found


def _vector(terms: dict[str, int], idf: dict[str, float]) -> dict[str, float]:
    found = {term: count * idf[term] for term, count in terms.items() if term in idf}
    norm = math.sqrt(sum(one * one for one in found.values())) or 1.0
    return {term: one / norm for term, one in found.items()}
