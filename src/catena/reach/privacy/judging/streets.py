"""Patterns of addresses in Latin script, put together from the parts and words of `data/addresses.toml`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
import re2
from msgspec import Struct

from catena.reach.privacy.identifiers.table import Gate

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_PART = re2.compile(r"<([A-Z_]+)>", _OPTIONS)


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern, whose first group, if any, is what is private; of one to `trim` words of the sentence are cut off."""

    kind: str
    score: float
    form: str
    trim: bool = False


class Fields(Struct, frozen=True, forbid_unknown_fields=True):
    """Names of fields that hold addresses and postcodes, words that a number follows, words of sentences."""

    names: tuple[str, ...]
    postcodes: tuple[str, ...]
    numbered: frozenset[str]
    sentence: frozenset[str]


class Content(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `data/addresses.toml`."""

    words: dict[str, str]
    parts: dict[str, str]
    forms: tuple[Form, ...]
    fields: Fields


class Streets:
    """The patterns: `forms`, told apart by `gate`; `field` and `postcode` find what names of fields announce."""

    def __init__(self) -> None:
        path = files("catena.reach.privacy").joinpath("data", "addresses.toml")
        content = msgspec.toml.decode(path.read_bytes(), type=Content)
        self._parts = {name.upper(): _any(words.split(" ")) for name, words in content.words.items()} | content.parts
        self.gate = Gate()
        self.forms: list[tuple[Form, Any]] = []
        for form in content.forms:
            pattern = self.pattern(form.form)
            self.gate.add(pattern)
            self.forms.append((form, re2.compile(pattern, _OPTIONS)))
        self.gate.close()
        self.numbered, self.sentence = content.fields.numbered, content.fields.sentence
        names = _any([name.replace(" ", "[ _-]?") for name in content.fields.names])
        leads = r"[\"'*]*[ \t]*(?:[:=：]+|\.{3,}|=>)[ \t]*[\"'*]*"
        value = r"([^\s\"'|<>{}\[\];\t][^\"|<>{}\[\];\n\t]{3,140})"
        self.field = re2.compile(rf"(?i)(?:^|[^a-z0-9])(?:{names}){leads}{value}", _OPTIONS)
        names = _any([name.replace(" ", "[ _-]?") for name in content.fields.postcodes])
        value = self.pattern(r"((?:[A-Z]{1,2}-)?\d{3,6}(?:-\d{3,4}| ?[A-Z]{2}\b| \d{2,3})?|<UK>|<CANADA>)\b")
        self.postcode = re2.compile(
            rf"(?i)(?:^|[^a-z0-9])(?:{names})[\"']?[ \t]*[:=：为是]?[ \t]*[\"']?{value}", _OPTIONS
        )

    def pattern(self, form: str) -> str:
        """`form` with its parts in it, theirs too."""
        while (match := _PART.search(form)) is not None:
            form = form[: match.start()] + self._parts[str(match[1])] + form[match.end() :]
        return form


def _any(words: list[str]) -> str:
    """An alternation of words, longer ones first."""
    return "|".join(sorted({word.replace(".", r"\.") for word in words if word}, key=lambda word: (-len(word), word)))
