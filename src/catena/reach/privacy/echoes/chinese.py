"""A Chinese name found once is found everywhere in the text: whole, spaced, given name alone, surname with a title."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import re2

from catena.reach.privacy.detectors.chinese_names import HONORIFICS, surname_of
from catena.reach.privacy.judging.chinese import reader
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

# A text that names more people than this is looked through for the first ones, for at most so many echoes.
MAX_NAMES = 200
MAX_ECHOES = 2000
LEAST = 0.55
# 总 alone is also the beginning of words.
TITLES = tuple(title for title in HONORIFICS if len(title) > 1)
_NAME = re2.compile(r"\p{Han}{2,5}|\p{Han}{1,8}(?:[·•]\p{Han}{1,8})+", _OPTIONS)
_SPACED = re2.compile(r"\p{Han}[ \x{3000}]\p{Han}", _OPTIONS)


def find(text: str, spans: list[Span]) -> Iterable[Span]:
    """Further mentions of the people of `spans`, a little less sure than the first."""
    names: dict[str, float] = {}
    for span in spans:
        if span.type == "person" and span.score >= LEAST and len(names) < MAX_NAMES:
            name = text[span.start : span.end]
            if name not in names and _NAME.fullmatch(name):
                names[name] = span.score
    if not names:
        return []
    places = _places(text)
    bare = text if places is None else "".join([text[place] for place in places])
    found: list[Span] = []
    for name, score in names.items():
        for start, end, share in _mentions(bare, name):
            first, last = (start, end - 1) if places is None else (places[start], places[end - 1])
            found.append(Span(first, last + 1, "person", round(max(0.5, score * share), 3)))
            if len(found) >= MAX_ECHOES:
                return found
    return found


def _places(text: str) -> list[int] | None:
    """Where the characters of `text` without blanks are; None if no name can be spaced in it."""
    if not _SPACED.search(text):
        return None
    return [place for place, char in enumerate(text) if char not in " \u3000"]


def _at(text: str, form: str) -> Iterator[int]:
    at = text.find(form)
    while at >= 0:
        yield at
        at = text.find(form, at + len(form))


def _mentions(text: str, name: str) -> Iterator[tuple[int, int, float]]:
    """Start, end and share of the score of every mention of who has this name."""
    for at in _at(text, name):
        yield at, at + len(name), 0.98
    if "·" in name or "•" in name:
        for part in name.replace("•", "·").split("·"):
            yield from ((at, at + len(part), 0.8) for at in (_at(text, part) if len(part) >= 2 else ()))
        return
    known = reader()
    simple = known.simplified(name)
    length = surname_of(known, simple)
    if not length or len(name) > length + 2:
        return
    yield from _titled(text, name[:length])
    given = name[length:]
    if not given or known.simplified(given).endswith(HONORIFICS):
        return
    for at in _at(text, given[-1]):
        if at and text[at - 1] in "阿小":
            yield at - 1, at + 1, 0.72
    if len(given) == 2 and known.known.words.get(simple[length:], "x0")[1] < "5":
        yield from ((at, at + 2, 0.75) for at in _at(text, given))


def _titled(text: str, surname: str) -> Iterator[tuple[int, int, float]]:
    """王先生, 老王: where the surname stands with an honorific or after 老 or 小."""
    length = len(surname)
    for at in _at(text, surname):
        for title in TITLES:
            if text.startswith(title, at + length):
                yield at, at + length + len(title), 0.85
        if at and length == 1 and text[at - 1] in "老小":
            yield at - 1, at + 1, 0.72
