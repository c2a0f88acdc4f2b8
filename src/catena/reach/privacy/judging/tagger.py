"""Finds names of people, organisations, jobs and places in a text: a linear model reads its words in order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import exp
from typing import NamedTuple

import msgspec

from catena.reach.privacy.judging.words import Lexicon, Words, lexicon, read

LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-JOB", "I-JOB", "B-PLC", "I-PLC")
# Small words that may stand inside a name but never begin one.
_LINKS = "of de la le van der den von zu di da do dos das del della du al el bin ben ibn y e and for the at"
LINKS = frozenset(_LINKS.split())
MAX_CASELESS = 14

# Weights of one feature are fields of one integer, so that a sum over features is one addition each.
FIELD_BITS = 24
_OFFSET = 1 << (FIELD_BITS - 1)
_MASK = (1 << FIELD_BITS) - 1
SCALE = 1000.0
BASE = sum(_OFFSET << (FIELD_BITS * place) for place in range(len(LABELS)))
ROW_BYTES = FIELD_BITS * len(LABELS) // 8


class Found(NamedTuple):
    """Words `first..last` (inclusive) are of a kind, with a probability."""

    first: int
    last: int
    kind: str
    probability: float


class Model(msgspec.Struct, frozen=True):
    """Features with tabs between them; nine weights each, in thousandths plus 2^23, three bytes each, low first."""

    labels: tuple[str, ...]
    features: str
    weights: bytes


def candidates(words: Words) -> list[int]:
    """Which words are judged: capitalised ones, lower-case names, words of titles, links after capitals, few others."""
    chosen: list[int] = []
    classes, shapes = words.classes, words.shapes
    is_foreign = None
    for index in range(len(words.words)):
        form = shapes[index]
        if form in ("Xx", "XX", "X", "XxX"):
            chosen.append(index)
        elif form == "x":
            kind = classes[index]
            if kind and (("f" in kind or "l" in kind or "j" in kind) or words.lower[index] in LINKS):
                chosen.append(index)
        elif form == "o" and len(words.words[index]) <= MAX_CASELESS:
            if is_foreign is None:
                is_foreign = shapes.count("o") * 4 > len(words.words)
            if not is_foreign:
                chosen.append(index)
    return chosen


def features(words: Words, i: int, before: str, key: str) -> tuple[str, ...]:
    """What the model sees of word `i`: `before` is the label of the word before it, `key` its field's name."""
    classes, shapes, context, gaps = words.classes, words.shapes, words.context, words.gaps
    kind, form, here = classes[i], shapes[i], context[i]
    p1, p2, n1, n2 = (context[i - 1], context[i - 2], context[i + 1], context[i + 2])
    left, right = gaps[i], gaps[i + 1]
    back = f"{classes[i - 1]}{shapes[i - 1]}"
    front = f"{classes[i + 1]}{shapes[i + 1]}"
    own = f"{kind}{form}"
    return (
        "b",
        f"c{own}",
        f"w{here}",
        f"p{p1}",
        f"q{p2} {p1}",
        f"g{left}",
        f"a{p1}{left}",
        f"d{p1}{left}{kind}",
        f"n{n1}",
        f"m{n1} {n2}",
        f"h{right}",
        f"e{right}{n1}",
        f"r{right}{n1}{kind}",
        f"B{own}|{back}{left}",
        f"F{own}|{front}{right}",
        f"t{before}{left}",
        f"u{before}{left}{own}",
        f"v{before}{here}",
        f"z{before}{p1}{left}",
        f"y{before}{right}{n1}",
        f"k{key}",
        f"K{key}{own}",
        f"o{p2}{kind}",
        f"i{n2}{kind}",
        f"s{words.lower[i][-3:]}{kind}",
        f"l{before}{kind}{front}{right}",
    )


def pack(weights: list[int]) -> int:
    """Weights as fields of one integer, lowest field first; a field may be negative."""
    return sum(weight << (FIELD_BITS * place) for place, weight in enumerate(weights))


class Tagger:
    """Reads a text from left to right and labels its candidates; what a word is labelled is a feature of the next."""

    def __init__(self, weights: Mapping[str, int], known: Lexicon, least: float = 0.5) -> None:
        self._weights = weights
        self._lexicon = known
        self._least = least
        self._base = BASE

    def find(self, words: Words) -> list[Found]:
        """Names in order, each a run of words of one label."""
        get = self._weights.get
        found: list[Found] = []
        last, before, key = -2, "O", ""
        key_at = -1
        for index in candidates(words):
            if index != last + 1:
                before = "O"
            if before == "O" and words.lower[index] in LINKS and words.shapes[index] == "x":
                continue
            key, key_at = key_of(words, index, key, key_at)
            total = self._base
            for feature in features(words, index, before, key):
                total += get(feature, 0)
            label, probability = self._best(total, before)
            if label[0] == "I":
                previous = found[-1]
                found[-1] = previous._replace(last=index, probability=max(previous.probability, probability))
            elif label[0] == "B":
                found.append(Found(index, index, label[2:], probability))
            before, last = label, index
        return found

    def _best(self, total: int, before: str) -> tuple[str, float]:
        """The label of a word and how sure: something if its labels together reach `least`."""
        inside = before[2:]
        scores: list[float] = []
        for label in LABELS:
            if label[0] == "I" and label[2:] != inside:
                scores.append(-99.0)
            else:
                scores.append(((total & _MASK) - _OFFSET) / SCALE)
            total >>= FIELD_BITS
        most = max(scores[1:])
        odds = sum(exp(score - scores[0]) for score in scores[1:]) if most - scores[0] < 50 else 1e20
        probability = odds / (1.0 + odds)
        if probability < self._least:
            return "O", 1.0 - probability
        return LABELS[scores.index(most, 1)], probability

    def words(self, text: str) -> Words:
        """The words of a text with their classes."""
        return Words(text, self._lexicon)


def key_of(words: Words, index: int, key: str, at: int) -> tuple[str, int]:
    """The word before the last colon or equals sign on the way to word `index`, while its value lasts."""
    gaps = words.gaps
    for place in range(max(at + 1, index - 6), index + 1):
        gap = gaps[place]
        if ":" in gap or "=" in gap:
            key = words.context[place - 1] if place else ""
        elif gap != " " and ("\n" in gap or "," in gap or ";" in gap or "|" in gap):
            key = ""
    return key, index


@lru_cache(maxsize=1)
def tagger() -> Tagger:
    """The one that ships: `data/names.json.gz` and the lexicon, read once."""
    model = msgspec.json.decode(read("names.json.gz"), type=Model)
    names, rows = model.features.split("\t"), model.weights
    if model.labels != LABELS or len(rows) != ROW_BYTES * len(names):
        raise ValueError("the model of names is not of the form that its reader knows")
    take, base = int.from_bytes, BASE
    packed = [take(rows[at : at + ROW_BYTES], "little") - base for at in range(0, len(rows), ROW_BYTES)]
    return Tagger(dict(zip(names, packed, strict=True)), lexicon())
