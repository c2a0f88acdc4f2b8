"""Reads Chinese text for names and places: words, surnames and places of the lexicon, and a linear judge of candidates.

A candidate is judged by logistic regression over what it is made of and what stands around it. Traditional characters
are read as their Simplified forms, one for one, so that every offset stays.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.resources import files
from math import exp
from typing import NamedTuple

import msgspec

# More than this in one file of ours means that it is not ours.
MAX_BYTES = 16 << 20
LONGEST_WORD = 4
LONGEST_PLACE = 8
END = "^"
HOPELESS = -9.0


class Chinese(msgspec.Struct, frozen=True):
    """What ships. `words`: four marks a word: part of speech, frequency, how names follow it, how names precede it.

    `surnames`: rank class by surname; `given`: class of how much a character is one of given names, as second, as last;
    `foreign`: characters that write foreign names; `places`: 1 names that need no suffix, 2 ambiguous ones;
    `simple`: Traditional characters and their Simplified forms, paired.
    """

    words: dict[str, str]
    surnames: dict[str, str]
    given: dict[str, str]
    foreign: str
    places: dict[str, str]
    simple: tuple[str, str]
    weights: dict[str, float]


class Candidate(NamedTuple):
    """`text[start:end]` may be a name, with a probability."""

    start: int
    end: int
    probability: float


def load(name: str) -> bytes:
    """A data file of this package, unpacked. Raises ValueError if it is beyond MAX_BYTES."""
    path = files("catena.reach.privacy.data").joinpath(name)
    with path.open("rb") as raw, gzip.open(raw, "rb") as packed:
        content = packed.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} is larger than anything that ships")
    return content


class Reader:
    """Judges the candidates of one text after another; keeps the last text only."""

    def __init__(self, known: Chinese) -> None:
        self.known = known
        self.simple = str.maketrans(*known.simple)
        self.foreign = frozenset(known.foreign)
        # The detectors ask for one text after one another; a pair is replaced whole, so threads do not mix.
        self._last = "", ""
        self.compounds = frozenset(name for name in known.surnames if len(name) == 2)
        heads: dict[str, set[int]] = {}
        for place in known.places:
            heads.setdefault(place[:2], set()).add(len(place))
        self.heads = {head: sorted(lengths, reverse=True) for head, lengths in heads.items()}

    def simplified(self, text: str) -> str:
        """The text in Simplified characters, of the same length."""
        last = self._last
        if text != last[0]:
            last = self._last = text, text if text.isascii() else text.translate(self.simple)
        return last[1]

    def before(self, text: str, at: int) -> str:
        """Marks of the longest word that ends at `at`."""
        words = self.known.words
        for length in (3, 2):
            marks = words.get(text[at - length : at]) if at >= length else None
            if marks:
                return marks
        return words.get(text[at - 1], "") if at else ""

    def after(self, text: str, at: int) -> str:
        """Marks of the longest word that begins at `at`."""
        words = self.known.words
        return words.get(text[at : at + 3]) or words.get(text[at : at + 2]) or words.get(text[at : at + 1], "")

    def left(self, text: str, start: int) -> tuple[list[str], str]:
        """Features of what stands before `start`, and the class of how names follow it."""
        words = self.known.words
        char = text[start - 1 : start] or END
        marks = self.before(text, start)
        side = marks[2:3]
        head = text[start : start + 1]
        return [
            "p" + char,
            "P" + text[max(start - 2, 0) : start],
            "L" + side,
            "b" + marks[:2],
            "x" + words.get(char + head, "")[:2],
            "X" + (words.get(text[start - 2 : start + 1], "")[:2] if start > 1 else ""),
        ], side

    def right(self, text: str, end: int) -> tuple[list[str], str]:
        """Features of what stands from `end` on, and the class of how names precede it."""
        words = self.known.words
        marks = self.after(text, end)
        side = marks[3:4]
        return [
            "n" + (text[end : end + 1] or END),
            "N" + text[end : end + 2],
            "R" + side,
            "a" + marks[:2],
            "y" + words.get(text[end - 1 : end + 1], "")[:2],
            "Y" + words.get(text[end - 1 : end + 2], "")[:2],
            "z" + words.get(text[end - 2 : end + 1], "")[:2],
        ], side

    def of_name(self, text: str, start: int, end: int, surname: int) -> list[str]:
        """Features of a Chinese name: `surname` characters of `text[start:end]` are the surname."""
        words, given = self.known.words, self.known.given
        rank = self.known.surnames[text[start : start + surname]]
        middle = start + surname
        first, last = text[middle], text[end - 1]
        length = str(surname) + str(end - middle)
        marks = given.get(first, "00"), given.get(last, "00")
        classes = marks[0][0] + marks[1][1] if end - middle == 2 else "-" + marks[1][1]
        whole = words.get(text[start:end], "")[:2]
        inner = words.get(text[middle:end], "")[:2] if end - middle == 2 else ""
        head = words.get(text[start : middle + 1], "")[:2] if end - middle == 2 else ""
        return [
            "l" + length,
            "s" + rank + length,
            "S" + text[start:middle] + length,
            "g" + classes + length,
            "G" + rank + classes,
            "w" + whole + length,
            "i" + inner,
            "h" + head,
            "f" + first,
            "e" + last + length,
            "c" + length + words.get(text[end - 1 : end + 1], "")[:2],
            "d" + length + self.after(text, end)[:2],
        ]

    def of_foreign(self, text: str, start: int, end: int) -> list[str]:
        """Features of a name in characters of transcription; what is of these features begins with a dot."""
        words = self.known.words
        name = text[start:end]
        length = min(end - start, 7)
        dotted = "·" in name or "•" in name
        outside_left = "1" if start and text[start - 1] in self.foreign else "0"
        outside_right = "1" if text[end : end + 1] in self.foreign and end < len(text) else "0"
        return [
            f".l{length}{dotted:d}",
            ".w" + words.get(name, "")[:2],
            ".W" + words.get(name, "")[:1] + str(length),
            ".k" + self.known.places.get(name, ""),
            ".f" + name[0],
            ".e" + name[-1],
            ".t" + name[-2:],
            ".h" + words.get(name[:2], "")[:2] + str(min(length, 4)),
            ".i" + words.get(name[-2:], "")[:2] + str(min(length, 4)),
            ".o" + outside_left + outside_right,
            ".O" + outside_left + outside_right + words.get(name, "")[:1],
        ]

    def features(self, text: str, start: int, end: int, surname: int) -> list[str]:
        """All features of a candidate; a `surname` of no characters is a foreign name, whose features have a dot."""
        left, before = self.left(text, start)
        right, after = self.right(text, end)
        if surname:
            return [*left, *right, *self.of_name(text, start, end, surname), "q" + before + after]
        around = ["." + feature for feature in left + right]
        return [*around, *self.of_foreign(text, start, end), ".q" + before + after]

    def probabilities(self, text: str, candidates: list[tuple[int, int, int]]) -> list[float]:
        """Of each candidate (start, end, length of surname) to be a name; both sides are summed once a place."""
        get, bias = self.known.weights.get, self.known.weights[""]
        lefts: dict[tuple[int, bool], tuple[float, str]] = {}
        rights: dict[tuple[int, bool], tuple[float, str]] = {}
        found: list[float] = []
        for start, end, surname in candidates:
            is_foreign = not surname
            dot = "." if is_foreign else ""
            left = lefts.get((start, is_foreign))
            if left is None:
                features, side = self.left(text, start)
                left = lefts[start, is_foreign] = sum([get(dot + each, 0.0) for each in features]), side
            right = rights.get((end, is_foreign))
            if right is None:
                features, side = self.right(text, end)
                right = rights[end, is_foreign] = sum([get(dot + each, 0.0) for each in features]), side
            total = bias + left[0] + right[0]
            # What is around it speaks so strongly against a name that nothing in it could outweigh that.
            if total < HOPELESS:
                found.append(0.0)
                continue
            own = self.of_foreign(text, start, end) if is_foreign else self.of_name(text, start, end, surname)
            total += get(f"{dot}q{left[1]}{right[1]}", 0.0)
            total += sum([get(each, 0.0) for each in own])
            found.append(1.0 / (1.0 + exp(-total)) if total > -30.0 else 0.0)
        return found

    def name_candidates(self, text: str) -> list[tuple[int, int, int]]:
        """Start, end and length of surname of every stretch that has the form of a Chinese name."""
        surnames, compounds, given, words = self.known.surnames, self.compounds, self.known.given, self.known.words
        found: list[tuple[int, int, int]] = []
        for start, char in enumerate(text):
            if char not in surnames and text[start : start + 2] not in compounds:
                continue
            if char in surnames:
                second = text[start + 1 : start + 2]
                if second in given:
                    found.append((start, start + 2, 1))
                    third = text[start + 2 : start + 3]
                    # A frequent word that runs on from the last character is no part of a name.
                    if third in given and self._may_end(words.get(text[start + 1 : start + 3], "r0")):
                        found.append((start, start + 3, 1))
            if text[start : start + 2] in compounds and text[start + 2 : start + 3] in given:
                found.append((start, start + 3, 2))
                if text[start + 3 : start + 4] in given:
                    found.append((start, start + 4, 2))
        return found

    @staticmethod
    def _may_end(marks: str) -> bool:
        """Whether a word of these marks may be a given name: frequent verbs and particles are none."""
        return marks[1] < "7" or marks[0] in "rt"

    def foreign_candidates(self, text: str) -> list[tuple[int, int, int]]:
        """Start, end and 0 of every stretch of two or more characters of transcription, and of what is left trimmed."""
        found: list[tuple[int, int, int]] = []
        foreign = self.foreign
        start = -1
        for at, char in enumerate(text + END):
            is_inside = char in foreign or (char in "·•" and start >= 0)
            if is_inside and start < 0:
                start = at
            elif not is_inside and start >= 0:
                if at - start >= 2:
                    self._trims(text, start, at, found)
                start = -1
        return found

    def _trims(self, text: str, start: int, end: int, found: list[tuple[int, int, int]]) -> None:
        if end - start == 2 and self.known.words.get(text[start:end], " ")[0] not in "rt":
            return
        for first in range(start, min(start + 3, end - 1)):
            for last in range(end, max(end - 3, first + 1), -1):
                if last - first <= 16 and text[first] not in "·•" and text[last - 1] not in "·•":
                    found.append((first, last, 0))

    def people(self, text: str, least: float) -> list[Candidate]:
        """Names in `text` (Simplified), best first, without overlaps."""
        candidates = self.name_candidates(text) + self.foreign_candidates(text)
        judged = [
            Candidate(start, end, probability)
            for (start, end, _), probability in zip(candidates, self.probabilities(text, candidates), strict=True)
            if probability >= least
        ]
        judged.sort(key=lambda each: (-each.probability, each.start - each.end))
        taken: set[int] = set()
        chosen: list[Candidate] = []
        for each in judged:
            if taken.isdisjoint(range(each.start, each.end)):
                taken.update(range(each.start, each.end))
                chosen.append(each)
        return chosen

    def places(self, text: str) -> list[tuple[int, int, str]]:
        """Start, end and class of the longest known places from left to right."""
        heads, places = self.heads, self.known.places
        found: list[tuple[int, int, str]] = []
        past = 0
        for at in [at for at, pair in enumerate(map(str.__add__, text, text[1:])) if pair in heads]:
            if at < past:
                continue
            for length in heads[text[at : at + 2]]:
                kind = places.get(text[at : at + length])
                if kind and at + length <= len(text):
                    found.append((at, at + length, kind))
                    past = at + length
                    break
        return found


@lru_cache(maxsize=1)
def reader() -> Reader:
    """The one that ships: `data/chinese.json.gz`, read once."""
    return Reader(msgspec.json.decode(load("chinese.json.gz"), type=Chinese))
