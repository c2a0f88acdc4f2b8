"""A text as words: where each is, its shape, its class in the lexicon of names, and what stands between two words."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import msgspec

# Whatever is no letter, digit or mark separates words; str.translate and str.split find them in linear time.
_ASCII = {code: " " for code in range(128) if not chr(code).isalnum()}
_BEYOND = (
    "\u00a0\u00a1\u00a7\u00ab\u00ac\u00ad\u00ae\u00af\u00b0\u00b4\u00b6\u00b7\u00b8\u00bb\u00bf\u00d7\u00f7"
    "\u2000\u2001\u2002\u2003\u2009\u200a\u200b\u2010\u2011\u2012\u2013\u2014\u2015\u2018\u2019\u201a\u201c\u201d"
    "\u201e\u2020\u2021\u2022\u2026\u202f\u2030\u2039\u203a\u20ac\u2122\u2190\u2192\u21d2\u2212\u2500\u2502\u251c"
    "\u2514\u25a0\u25aa\u25cf\u2605\u2713\u2714\u2717\u3000\u3001\u3002\u3008\u3009\u300a\u300b\u300c\u300d\u300e"
    "\u300f\u3010\u3011\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff01"
)
_SEPARATORS = _ASCII | {ord(char): " " for char in _BEYOND}

# Classes of a word are written one after another: f1-f3 first name (3: most frequent), l1-l3 last name,
# c1-c3 common word, p place, m month or day, o part of organisations' names, j of job titles, h honorific,
# k proper noun of documentation, n nationality or language.
Lexicon = Mapping[str, str]


class Words:
    """Words of one text as parallel lists of length N; `gaps` has N + 1, what stands before each word and at the end.

    Every list but `starts` and `ends` is padded by two empty entries at the end, so that `i - 2 .. i + 2` are valid
    indices for each word `i` (Python's negative ones reach the padding).
    """

    __slots__ = ("classes", "context", "ends", "gaps", "lower", "shapes", "starts", "text", "words")

    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self.text = text
        self.words: list[str] = text.translate(_SEPARATORS).split()
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.gaps: list[str] = []
        end = 0
        find = text.find
        for word in self.words:
            start = find(word, end)
            self.gaps.append(_gap(text[end:start]) if end else "^" + _gap(text[:start]))
            end = start + len(word)
            self.starts.append(start)
            self.ends.append(end)
        self.gaps += [_gap(text[end:]) + "$", "", ""]
        self.lower: list[str] = [word.lower() for word in self.words]
        get = lexicon.get
        self.classes: list[str] = [get(word, "") for word in self.lower]
        self.shapes: list[str] = [shape(word) for word in self.words]
        self.context: list[str] = [
            word if is_spoken(kind) else f"{kind}{form}"
            for word, kind, form in zip(self.lower, self.classes, self.shapes, strict=True)
        ]
        for padded in (self.lower, self.classes, self.shapes, self.context):
            padded.extend(("", ""))


@lru_cache(maxsize=4096)
def is_spoken(kind: str) -> bool:
    """Whether a word of this class may be a feature by itself: it is a word of the language, not only a name."""
    return kind != "" and not kind.isspace() and any(mark in kind for mark in "cohmjkn")


def _gap(between: str) -> str:
    """What stands between two words, short enough to be a feature: ends of long ones, runs of blanks as one."""
    if between == " ":
        return between
    short = between if len(between) <= 3 else between[:2] + between[-2:]
    if "\n" in between:
        return "\n" + short.strip()
    return " ".join(short.split("  ")) if "  " in short else short


@lru_cache(maxsize=8192)
def shape(word: str) -> str:
    """The form of a word: Xx, XX, X, x, 9, X9 (letters and digits), XxX, xX, or o for a script without case."""
    if word.isdigit():
        return "9"
    if not word.isalpha() and any(char.isdigit() for char in word):
        return "X9"
    if word.islower():
        return "x"
    if word.isupper():
        return "X" if len(word) == 1 else "XX"
    if word.istitle():
        return "Xx"
    if word.lower() == word.upper():
        return "o"
    return "XxX" if word[0].isupper() else "xX"


def read(name: str) -> bytes:
    """The bytes of a gzipped data file that ships with the detectors."""
    return gzip.decompress(files("catena.reach.privacy").joinpath("data", name).read_bytes())


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Classes of words by the lower-case word, from `data/lexicon.json.gz`: {class: words separated by blanks}."""
    classes = msgspec.json.decode(read("lexicon.json.gz"), type=dict[str, str])
    found: dict[str, str] = {}
    for kind, words in classes.items():
        found.update(dict.fromkeys(words.split(), kind))
    return found
