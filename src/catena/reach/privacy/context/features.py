"""What the context judge sees of a text: concepts, pairs of them, stems, word pairs and Chinese character n-grams."""

from __future__ import annotations

import math

import re2

from catena.reach.privacy.context.concepts import concepts_of, simplified

# A longer text is looked at in windows: what is private in the middle must count as much as at the start.
WINDOW = 2_000
OVERLAP = 200
_WORDS = re2.compile(r"[A-Za-z][A-Za-z'’]*|\p{Han}+|\d+")
_LEXICAL = 2.0  # norm of the lexical part
_PAIRS = 1.5  # norm of the pairs


def windows(text: str) -> list[str]:
    """Overlapping stretches of at most WINDOW characters that cover `text`."""
    if len(text) <= WINDOW:
        return [text]
    return [text[start : start + WINDOW] for start in range(0, len(text) - OVERLAP, WINDOW - OVERLAP)]


def features_of(text: str) -> dict[str, float]:
    """Name to value. Concepts `c:`, their pairs `p:`, stems `s:`, pairs of stems `b:`, Chinese n-grams `z:`, form `f:`.

    The lexical part has a fixed Euclidean norm, as has that of the pairs, so that long texts do not count more.
    """
    text = simplified(text)
    names = concepts_of(text)
    found = {f"c:{name}": 1.0 for name in names}
    lexical = lexical_of(text)
    if lexical:
        each = _LEXICAL / math.sqrt(len(lexical))
        for name in lexical:
            found[name] = each
    pairs = [f"p:{one}+{other}" for place, one in enumerate(names) for other in names[place + 1 :]]
    if pairs:
        each = _PAIRS / math.sqrt(len(pairs))
        for name in pairs:
            found[name] = each
    for limit in (40, 120, 400):
        if len(text) > limit:
            found[f"f:longer{limit}"] = 0.3
    return found


def lexical_of(text: str) -> set[str]:
    """The features of words alone."""
    found: set[str] = set()
    before = ""
    for word in _WORDS.findall(text):
        if word[0] >= "一":
            for size in (1, 2, 3):
                found.update(f"z:{word[start : start + size]}" for start in range(len(word) - size + 1))
            before = ""
        else:
            stem = word.lower()[:6] if word[0] > "9" else "0"
            found.add(f"s:{stem}")
            if before:
                found.add(f"b:{before} {stem}")
            before = stem
    return found
