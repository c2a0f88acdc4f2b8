"""Health of a person: conditions, medicines with doses, procedures, blood groups; not medicine in general."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import re2

from catena.reach.privacy.judging.chinese import reader
from catena.reach.privacy.judging.health import Lexicon
from catena.reach.privacy.judging.persons import Persons, persons
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
lexicon = lru_cache(maxsize=1)(Lexicon)
# How near a sign of treatment is looked for, and how near a person for words of other senses.
SIGNS, CLOSE = 140, 80
_GROUP = r"(?:AB|A|B|O)"
_BLOOD = re2.compile(
    r"(?i:blood[ _]?(?:type|group|grp)|type of blood|\babo|groupe sanguin|blutgruppe|grupo sanguíneo|gruppo sanguigno)"
    rf"[\"']?\s{{0,3}}(?:is|:|=|was|of)?\s{{0,3}}[\"']?"
    rf"({_GROUP}(?: ?[+-]|(?i: ?(?:rh)?[ -]?(?:positive|negative|pos|neg)\b)|\b))"
    rf"|血型[:：为是\s]{{0,3}}({_GROUP}型?(?:[+-]|（?[Rr][Hh][阴阳+-]性?）?)?|[Rr][Hh][阴阳]性)"
    rf"|\b({_GROUP}[ -]?(?:[Rr]h)?[ -]?(?i:positive|negative)) (?i:blood)",
    _OPTIONS,
)
_SENTENCE = re2.compile(r"[a-z]{2}\.\s+\p{Lu}|\s--\s|\s{4,}", _OPTIONS)
_SPLIT = re2.compile(r"(?i)\s*(?:[,;、，]|\band\b|\s{2,}|\.\s|$)\s*", _OPTIONS)
_LEADS = frozenset("行过了做受于因为的是有患及和予用服曾拟给")
_NONE = "none|n/a|na|nil|nkda|unknown|no|yes|null|true|false|negative|normal|无|否认|none known|pending"
_NOTHING = frozenset(_NONE.split("|"))


def find(text: str) -> Iterable[Span]:
    """Spans of kinds health_condition, medication, procedure and blood_type; under 0.5 without a person near."""
    known = lexicon()
    if not text.isascii():
        text = reader().simplified(text)
    hits = known.gate.hits(text)
    words: list[Span] = []
    if hits:
        near = persons(text)
        for index in hits:
            kind, sureness, pattern = known.kinds[index]
            for match in pattern.finditer(text):
                start, end = match.span()
                if not text[start].isascii() and (kind == "procedure" or sureness == "ending"):
                    start = _begin(text, start, end)
                score = _score(known, near, text, start, end, sureness)
                if score:
                    words.append(Span(start, end, kind, score))
    yield from words
    marks = bytearray(len(text))
    for span in words:
        marks[span.start : span.end] = b"\1" * (span.end - span.start)
    for index in known.field_gate.hits(text):
        kind, pattern = known.fields[index]
        for match in pattern.finditer(text):
            yield from _values(text, kind, match.start(1), match.end(1), marks)
    if "lood" in text or "血型" in text or "BLOOD" in text or "sang" in text or "Blut" in text:
        for match in _BLOOD.finditer(text):
            group = next(number for number in (1, 2, 3) if match.group(number) is not None)
            yield Span(match.start(group), match.end(group), "blood_type", 0.9)


def _begin(text: str, start: int, end: int) -> int:
    """Where a Chinese name begins whose form took in what leads to it: 本人做过|胆囊切除术."""
    return next((at + 1 for at in range(end - 3, start - 1, -1) if text[at] in _LEADS), start)


def _score(known: Lexicon, near: Persons, text: str, start: int, end: int, sureness: str) -> float:
    """How sure it is that this is somebody's."""
    word = text[start:end].lower()
    if sureness == "ending" and word.rsplit(" ", 1)[-1] in known.not_words:
        return 0.0
    around = text[max(0, start - SIGNS) : end + SIGNS]
    is_chinese = not text[start].isascii()
    is_treated = bool((known.signs_chinese if is_chinese else known.signs).search(around))
    is_record = near.is_record(start)
    if word in known.ambiguous or sureness == "dosed":
        return 0.72 if is_treated and (is_record or near.is_close(start, CLOSE)) else 0.35
    if is_record and (is_treated or sureness != "ending"):
        return 0.8
    if near.is_close(start) and is_treated:
        return 0.7
    return 0.55 if near.is_close(start, CLOSE) and sureness == "listed" else 0.35


def _values(text: str, kind: str, start: int, end: int, marks: bytearray) -> Iterator[Span]:
    """The values of a field, one by one, where no word is known in them: `start` to `end` is what fills it."""
    sentence = _SENTENCE.search(text[start:end])
    end = start + sentence.start() + 2 if sentence is not None else end
    is_record = persons(text).is_record(start)
    has_known = 1 in marks[start:end]
    if not (has_known or is_record) or (has_known and not text[start:end].isascii()):
        return
    at = start
    while at < end:
        match = _SPLIT.search(text[at:end])
        stop = at + (match.start() if match is not None else end - at)
        value = text[at:stop].strip(" .\t\"'[]")
        if 2 <= len(value) <= 80 and value.lower() not in _NOTHING and ":" not in value and 1 not in marks[at:stop]:
            begin = text.index(value, at)
            if any(char.isalpha() for char in value):
                yield Span(begin, begin + len(value), kind, 0.78 if is_record else 0.6)
        at = at + match.end() if match is not None and match.end() > 0 else end
