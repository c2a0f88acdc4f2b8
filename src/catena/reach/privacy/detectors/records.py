"""Numbers by the name of their field: cases, licences, records, policies, staff, customers, accounts, references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec
import re2
from msgspec import Struct

from catena.reach.privacy.identifiers.table import Gate
from catena.reach.privacy.judging.persons import persons
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
# How far before a value the name of its field is looked for, and how many words it may have.
BEFORE, WORDS = 56, 5
# A value: letters, digits and joints with at least one digit.
_VALUE = re2.compile(r"(?:[A-Za-z]{1,8}[-/.]?){0,3}\d[0-9A-Za-z]*(?:[-/.:*][0-9A-Za-z*]+)*", _OPTIONS)
# What may go on after a blank where a field was named: 21 CV 1234, W1234 5678.
_MORE = re2.compile(r"(?:[ -](?:[A-Z]{1,4} )?\d{2,8}(?:-[0-9A-Z]{1,6})?){1,4}\b", _OPTIONS)
_CAMEL = re2.compile(r"([a-z])([A-Z])", _OPTIONS)
_NEITHER = str.maketrans(dict.fromkeys((chr(code) for code in range(128) if not chr(code).isalnum()), " "))
_LEADING = " \t\"'“”‘’:=#：＝([{<>|*.,-–—_/\u00a0\n\r°º№"
_COLONS = frozenset(":=：＝#|№")
_DATE = re2.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}(?::\d{2})?(?:[AaPp][Mm])?|\d{1,4}[./-]\d{1,2}", _OPTIONS
)
_CHINESE_VALUE = re2.compile(r"[A-Za-z]{0,6}[-]?\d[0-9A-Za-z]*(?:[-/][0-9A-Za-z]+)*", _OPTIONS)


class Field(Struct, frozen=True, forbid_unknown_fields=True):
    """The names of one kind of field, Chinese ones as a pattern, and the class of its values: code, digits, short."""

    value: str
    names: tuple[str, ...]
    chinese: str = ""


class Alone(Struct, frozen=True, forbid_unknown_fields=True):
    """A form that needs no field."""

    kind: str
    score: float
    form: str


class Content(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `data/records.toml`."""

    links: frozenset[str]
    marks: frozenset[str]
    plain: frozenset[str]
    loose: frozenset[str]
    fields: dict[str, Field]
    alone: tuple[Alone, ...]


class Fields:
    """All fields by name: what kind each is."""

    def __init__(self) -> None:
        path = files("catena.reach.privacy").joinpath("data", "records.toml")
        self.content = msgspec.toml.decode(path.read_bytes(), type=Content)
        self.kinds: dict[str, tuple[str, str]] = {}
        for kind, field in self.content.fields.items():
            for name in field.names:
                plain = " ".join(name.lower().translate(_NEITHER).split())
                self.kinds.setdefault(plain, (kind, field.value))
                self.kinds.setdefault(plain.replace(" ", ""), (kind, field.value))
        self.lasts = frozenset(name.split(" ")[-1] for name in self.kinds) | self.content.marks | self.content.links
        self.chinese = re2.compile(
            "|".join(
                rf"(?P<{kind}>{field.chinese})(?:码|為|为|是|：|:|[ \t#.])*"
                for kind, field in self.content.fields.items()
                if field.chinese
            ),
            _OPTIONS,
        )
        self.gate = Gate()
        self.alone: list[tuple[str, float, Any]] = []
        for form in self.content.alone:
            self.gate.add(form.form)
            self.alone.append((form.kind, form.score, re2.compile(form.form, _OPTIONS)))
        self.gate.close()


fields = lru_cache(maxsize=1)(Fields)


def find(text: str) -> Iterable[Span]:
    """Spans of all kinds of `data/records.toml`, and of numbers of cases and records whose form is known."""
    known = fields()
    for index in known.gate.hits(text):
        kind, score, pattern = known.alone[index]
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), kind, score)
    end = 0
    for match in _VALUE.finditer(text):
        if match.start() >= end and (span := _named(known, text, match.start(), match.end())) is not None:
            end = span.end
            yield span
    if not text.isascii():
        yield from _chinese(known, text)


def _named(known: Fields, text: str, start: int, end: int) -> Span | None:
    """The value at `start`, if what stands before it names a field."""
    before = text[max(0, start - BEFORE) : start]
    bare = before.rstrip(_LEADING)
    last = bare[bare.rfind(" ") + 1 :].translate(_NEITHER).rsplit(" ", 1)[-1]
    if not last or not last.isalpha() or (last.lower() not in known.lasts and not _is_camel(known, last)):
        return None
    between = before[len(bare) :]
    if (
        between.count("\n") > 1
        or ("\n" in between and _COLONS.isdisjoint(between))
        or "." in between[1:].replace("...", "")
    ):
        return None
    line = bare[bare.rfind("\n") + 1 :]
    words = (
        _CAMEL.sub(r"\1 \2", line)
        .lower()
        .replace("'s ", " ")
        .replace("’s ", " ")
        .translate(_NEITHER)
        .split()[-WORDS - 3 :]
    )
    is_marked = not _COLONS.isdisjoint(between)
    found = _field(known, words, is_marked)
    if found is None:
        return None
    kind, value, name, is_marked = found
    end = _extended(text, start, end)
    score = _score(value, text[start:end], name in known.content.plain, is_marked)
    if score and kind in known.content.loose and not persons(text).is_record(start):
        score = min(score, 0.45)
    return Span(start, end, kind, score) if score else None


def _is_camel(known: Fields, word: str) -> bool:
    return not word.islower() and _CAMEL.sub(r"\1 \2", word).rsplit(" ", 1)[-1].lower() in known.lasts


def _field(known: Fields, words: list[str], is_marked: bool) -> tuple[str, str, str, bool] | None:
    """Kind, class of values and name of the field that `words` end with, and whether a mark says so."""
    marks, has_link = known.content.marks, False
    while words:
        for size in range(min(WORDS, len(words)), 0, -1):
            name = " ".join(words[-size:])
            if name in known.kinds:
                kind, value = known.kinds[name]
                return kind, value, name, is_marked or words[-1] in marks
        if words[-1] not in known.content.links and words[-1] not in marks:
            return _earlier(known, words) if has_link else None
        has_link = has_link or words[-1] in ("is", "was")
        is_marked = is_marked or words[-1] in marks
        words = words[:-1]
    return None


def _earlier(known: Fields, words: list[str]) -> tuple[str, str, str, bool] | None:
    """A field whose name is further off: "the student number from that school was"."""
    for last in range(len(words) - 1, 0, -1):
        name = f"{words[last - 1]} {words[last]}"
        if words[last] in known.content.marks and name in known.kinds:
            return *known.kinds[name], name, True
    return None


def _extended(text: str, start: int, end: int) -> int:
    """The end of a value that goes on after blanks: `21 CV 1234`."""
    more = _MORE.match(text[end : end + 40])
    return end + more.end() if more is not None and not text[start].islower() else end


def _score(kind: str, value: str, is_plain: bool, is_marked: bool) -> float:
    digits = sum(char.isdigit() for char in value)
    size = sum(char.isalnum() or char == "*" for char in value)
    if _DATE.fullmatch(value) and kind != "short":
        return 0.0
    if kind == "short":
        return 0.9 if is_marked and 3 <= size <= 8 else 0.0
    if kind == "digits" and (digits < 4 or digits < size - 4):
        return 0.0
    if size < 4 or digits < 2 or size > 40:
        return 0.6 if is_marked and size >= 3 and digits >= 2 and not is_plain else 0.0
    if is_plain:
        if not is_marked:
            return 0.6 if digits >= 6 else 0.0
        return 0.8 if size >= 5 or digits >= 4 else 0.0
    return 0.92 if is_marked else 0.8


def _chinese(known: Fields, text: str) -> Iterator[Span]:
    """Values after Chinese names of fields, which have no blanks around them."""
    for match in known.chinese.finditer(text):
        kind = match.lastgroup
        value = _CHINESE_VALUE.match(text[match.end() : match.end() + 48])
        if kind and value is not None and value.end() >= (2 if kind == "employee_id" else 4):
            score = 0.93 if kind != "reference" or persons(text).is_record(match.start()) else 0.45
            yield Span(match.end(), match.end() + value.end(), kind, score)
