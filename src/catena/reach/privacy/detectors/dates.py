"""Dates of birth, ages, and dates and times of what a person did or what was done to one."""

from __future__ import annotations

from collections.abc import Iterable
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
_PART = re2.compile(r"<([A-Z]+)>", _OPTIONS)
# How near a record must be for a date, and for an age; lines of logs speak of somebody by address.
DATES, AGES = 700, 500
_LOGGED = re2.compile(
    r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b|\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b"
    r"|(?i:\b(?:user|logged in|login|session|accessed|uid|actor|employee|customer|patient)\b)",
    _OPTIONS,
)


class Content(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `data/dates.toml`."""

    parts: dict[str, str]
    forms: dict[str, str]
    words: dict[str, str]


class Dates:
    """The patterns by name."""

    def __init__(self) -> None:
        path = files("catena.reach.privacy").joinpath("data", "dates.toml")
        content = msgspec.toml.decode(path.read_bytes(), type=Content)
        self.gate = Gate()
        self.forms: list[tuple[str, Any]] = []
        for name, pattern in content.forms.items():
            form = pattern
            while (match := _PART.search(form)) is not None:
                form = form[: match.start()] + content.parts[str(match[1])] + form[match.end() :]
            self.gate.add(form)
            self.forms.append((name, re2.compile(form, _OPTIONS)))
        self.gate.close()
        self.events = tuple(content.words["events"].split("|")) + tuple(content.words["chinese"].split("|"))


dates = lru_cache(maxsize=1)(Dates)


def find(text: str) -> Iterable[Span]:
    """Spans of kinds date_of_birth, age, date and timestamp; the last three only where a person is near."""
    known = dates()
    for index in known.gate.hits(text):
        name, pattern = known.forms[index]
        for match in pattern.finditer(text):
            group = next((number for number in range(1, pattern.groups + 1) if match.group(number) is not None), 0)
            start, end = match.span(group)
            kind, score = _judged(known, name, text, start, end)
            if score:
                yield Span(start, end, kind, score)


def _judged(known: Dates, name: str, text: str, start: int, end: int) -> tuple[str, float]:
    """Kind and score of what the form `name` found."""
    near = persons(text)
    if name in ("birth", "born_after"):
        return "date_of_birth", 0.95 if near.is_record(start, DATES) else 0.7
    if name.startswith("age"):
        if name == "age_listed":
            return "age", 0.6 if near.is_record(start, AGES // 5) else 0.0
        size = end - start + 12
        is_named = name in ("age_after", "age_chinese")
        is_sure = near.is_record(start, AGES, size) if is_named else near.is_close(start, besides=size)
        # One person of that age, as in "is a 68 year old": not "65 years of age or older".
        is_sure = is_sure or text[max(0, start - 4) : start].lower().endswith((" a ", " an ", "is ", "am ", ", "))
        return "age", 0.85 if is_sure else 0.4
    if name == "timestamp":
        is_near = near.is_record(start, DATES) or bool(_LOGGED.search(text[end : end + 160]))
        return "timestamp", 0.72 if is_near else 0.35
    if text[start - 1 : start] in ("/", "-", ".", "_", "=") and start:
        return "date", 0.0
    is_formal = text[start:end].isascii() or near.is_formal()
    if is_formal and near.is_record(start, DATES, end - start):
        before = text[max(0, start - 48) : start].lower()
        return "date", 0.7 if any(word in before for word in known.events) else 0.6
    return "date", 0.35
