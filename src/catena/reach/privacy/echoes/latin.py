"""Finds a person's name again in the same text: first or last name alone, initials, upper and lower case."""

from __future__ import annotations

from collections.abc import Iterable

from catena.reach.privacy.judging.words import Words, lexicon
from catena.reach.privacy.spans import Span

# A name is only echoed from a finding this sure; what it brings back scores a little less than it did.
SURE = 0.7
LOSS = 0.95
LEAST_LETTERS = 3
MOST_NAMES = 2_000
_PARTICLES = "van der den de la von di da do dos del al el bin ben ibn st mc jr sr ii iii iv esq md phd dr mr mrs ms"
PARTICLES = frozenset(_PARTICLES.split())


def find(text: str, spans: list[Span]) -> Iterable[Span]:
    """Spans of kind person where a word of a person's name in `spans` stands again, in any case; time linear in `text`.

    A word of the language that is also a name (Will, May) is only taken capitalised, and never at the start of a line
    or sentence; one that documentation uses all the time is not taken at all. A neighbouring initial belongs to it.
    """
    sure = [span for span in spans if span.type == "person" and span.score >= SURE][:MOST_NAMES]
    if not sure:
        return
    known = lexicon()
    names: dict[str, float] = {}
    for span in sure:
        for word in Words(text[span.start : span.end], known).lower[:-2]:
            if len(word) >= LEAST_LETTERS and word not in PARTICLES and word.isalpha():
                names[word] = max(names.get(word, 0.0), span.score)
    words = Words(text, known)
    for index, word in enumerate(words.lower[:-2]):
        score = names.get(word)
        if score is None or not _may(words, index):
            continue
        first = index
        if first and words.shapes[first - 1] == "X" and words.gaps[first] in (" ", ". ", "."):
            first -= 1
        yield Span(words.starts[first], words.ends[index], "person", score * LOSS)


def _may(words: Words, index: int) -> bool:
    """Whether the word may be a name here, by how common it is in the language and how it is written."""
    kind, form = words.classes[index], words.shapes[index]
    if "c3" in kind or "m" in kind:
        return False
    if "c" not in kind and "j" not in kind and "o" not in kind:
        return True
    return form in ("Xx", "XX") and words.gaps[index] == " "
