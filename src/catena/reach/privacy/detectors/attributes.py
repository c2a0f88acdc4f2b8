"""What is said of a person: gender, ethnicity, religion, nationality, marriage, orientation, politics, convictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec
import re2
from msgspec import Struct

from catena.reach.privacy.identifiers.table import Gate
from catena.reach.privacy.judging.chinese import reader
from catena.reach.privacy.judging.persons import persons
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
# How far a record of a person reaches to what stands in a list, and a person to what a phrase says.
RECORD, CLOSE = 600, 160
_NONE = "n/a|na|none|unknown|unspecified|null|true|false|string|any|int|str|required|optional|other"
_NOTHING = frozenset(_NONE.split("|"))
# Names of fields that are also names in code and prose: they need a person near.
_LOOSE = re2.compile(
    r"(?i)(?:sex|race|orientation|politics|charges?|faith|marital|offen[cs]es?|denomination)", _OPTIONS
)


class Attribute(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind: its values, the names of its fields, values of one letter, and phrases around a value."""

    values: str
    fields: str
    short: str
    phrases: tuple[str, ...]
    chinese: str


class Attributes:
    """The patterns of `data/attributes.toml`; of each form its kind, its way (field, phrase, chinese) and itself."""

    def __init__(self) -> None:
        path = files("catena.reach.privacy").joinpath("data", "attributes.toml")
        content = msgspec.toml.decode(path.read_bytes(), type=dict[str, Attribute])
        self.gate = Gate()
        self.forms: list[tuple[str, str, Any]] = []
        for kind, attribute in content.items():
            for way, pattern in _forms(attribute):
                self.gate.add(pattern)
                self.forms.append((kind, way, re2.compile(pattern, _OPTIONS)))
        self.gate.close()


def _forms(attribute: Attribute) -> Iterator[tuple[str, str]]:
    names = "|".join(sorted(attribute.fields.split("|"), key=len, reverse=True)).replace(" ", "[ _-]?")
    values = rf"(?:{attribute.values})\b"
    one = rf"|{attribute.short}\b" if attribute.short else ""
    lead = rf"(?i:(?:^|[^a-z0-9])(?:{names}))[\"']?[ \t]*(?:[:=]|\.{{3,}}|\t| {{3,}})[ \t]*[\"'\[]*"
    yield "field", rf"{lead}((?i:{values}){one}|[A-Z\p{{L}}][^\n\"',;|<>{{}}()\[\]:=]{{1,40}})"
    for phrase in attribute.phrases:
        yield "phrase", f"(?i:{phrase.replace('<V>', values)})"
    yield "chinese", attribute.chinese


attributes = lru_cache(maxsize=1)(Attributes)


def find(text: str) -> Iterable[Span]:
    """Spans of these kinds, where a field names them or a person is near."""
    known = attributes()
    if not text.isascii():
        text = reader().simplified(text)
    for index in known.gate.hits(text):
        kind, way, pattern = known.forms[index]
        for match in pattern.finditer(text):
            group = next((number for number in range(1, pattern.groups + 1) if match.group(number) is not None), 0)
            start, end = match.span(group)
            while end > start and text[end - 1] in " .,;\t":
                end -= 1
            score = _score(way, text, match.start(), start, end)
            if score and start < end:
                yield Span(start, end, kind, score)


def _score(way: str, text: str, begin: int, start: int, end: int) -> float:
    """How sure it is that a person is meant; `begin` is where the field or phrase begins."""
    near = persons(text)
    if way == "field":
        value = text[start:end].lower()
        if value in _NOTHING or "(" in text[end : end + 1]:
            return 0.0
        is_record = near.is_record(start)
        return 0.85 if is_record else 0.6 if not _LOOSE.search(text[begin:start]) and text[start].isupper() else 0.4
    if way == "chinese":
        return 0.8 if near.is_record(start) else 0.4
    return 0.72 if near.is_record(start, RECORD) or near.is_close(start, CLOSE) else 0.35
