"""Reads a table of forms of numbers, and finds those whose check or surroundings speak for them, in linear time."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

import msgspec
import re2
from msgspec import Struct

from catena.core.errors import ConfigError
from catena.reach.privacy.folding import views
from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.spans import Span

Check = Callable[[str], bool]
# How far before a number, and after it, words may stand that say what it is.
BEFORE, AFTER = 64, 16
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_PUNCTUATION = str.maketrans(
    {chr(code): " " for code in range(128) if not chr(code).isalnum()} | {"：": " ", "，": " "}
)
_SEPARATORS = str.maketrans("", "", " .-+/·•()\u2010\u2011\u2013")


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """One number: `form` is a pattern of RE2 between word boundaries (none if `bare`), its first group what is private.

    `alone` is the score of one that passes `check`, `beside` if one of `words` stands near too, `failed` if one does
    but the check fails; 0 is never. `check` is `module.function` of this package, given letters and digits only.
    """

    kind: str
    form: str
    words: tuple[str, ...] = ()
    check: str = ""
    alone: float = 0.0
    beside: float = 0.95
    failed: float = 0.0
    bare: bool = False


class Gate:
    """Many patterns in one pass: says which of them are in a text, or all where RE2 has run out of memory for that."""

    def __init__(self) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 64 << 20
        self._set = re2.Set.SearchSet(options)
        # Always hit: its absence tells a failure, which RE2's Python reports as no hit at all.
        self._sentinel = self._set.Add("")
        self._size = 0

    def add(self, pattern: str) -> None:
        """The patterns are numbered from zero in the order they come in."""
        self._set.Add(pattern)
        self._size += 1

    def close(self) -> None:
        """No pattern may be added after this."""
        self._set.Compile()

    def hits(self, text: str) -> list[int]:
        """Numbers of the patterns that are in `text`, in order."""
        found: list[int] | None = self._set.Match(text)
        if not found or self._sentinel not in found:
            return list(range(self._size))
        return sorted(index - 1 for index in found if index != self._sentinel)


class Numbers:
    """The numbers of `data/NAME.toml`, ready to be found."""

    def __init__(self, name: str) -> None:
        content = files("catena.reach.privacy").joinpath("data", f"{name}.toml").read_bytes()
        self.forms = msgspec.toml.decode(content, type=dict[str, Form])
        self._gate = Gate()
        self._rows: list[tuple[Form, Any, Check | None, tuple[str, ...]]] = []
        for key, form in self.forms.items():
            if form.kind not in KINDS:
                raise ConfigError(f"{name}.toml: {key} is of no known kind", hint="kinds are listed in kinds.py")
            pattern = form.form if form.bare else rf"(?:\b|_)({form.form})(?:\b|_)"
            self._gate.add(pattern)
            # Detectors are given folded text, so words are looked for in that form too.
            words = tuple(dict.fromkeys([*form.words, *(views(word)[0].text.lower() for word in form.words)]))
            known = msgspec.structs.replace(form, words=words)
            said = tuple({word.replace(" ", "") for word in words})
            self._rows.append((known, re2.compile(pattern, _OPTIONS), check(form.check), said))
        self._gate.close()

    def find(self, text: str) -> Iterable[Span]:
        """Spans of all forms in `text`; one number may be of several."""
        hits = self._gate.hits(text)
        squeezed = "".join(text.lower().translate(_PUNCTUATION).split()) if hits else ""
        for index in hits:
            form, pattern, is_valid, said = self._rows[index]
            if not form.alone and not any(word in squeezed for word in said):
                continue
            for match in pattern.finditer(text):
                start, end = match.span(1 if pattern.groups else 0)
                score = _score(form, is_valid, text, start, end)
                if score:
                    yield Span(start, end, form.kind, score)


def check(path: str) -> Check | None:
    """The check `module.function` of this package; None for an empty path."""
    if not path:
        return None
    module, _, name = path.partition(".")
    found: Check = getattr(importlib.import_module(f"catena.reach.privacy.identifiers.{module}"), name)
    return found


def _score(form: Form, is_valid: Check | None, text: str, start: int, end: int) -> float:
    plain = text[start:end].translate(_SEPARATORS).upper()
    is_right = is_valid is None or is_valid(plain)
    if is_right and form.alone >= form.beside:
        return form.alone
    if (form.beside if is_right else form.failed) and is_near(form.words, text, start, end):
        return form.beside if is_right else form.failed
    return form.alone if is_right and form.alone and is_whole(text, start, end) else 0.0


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` is no part of a longer number, version, path or name of a file."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and before[-1] in ".-/,:_+=#" and before[:1].isascii() and before[:1].isalnum():
        return False
    return not (after and after[0] in ".-/,:_@" and after[1:].isascii() and after[1:].isalnum())


def is_near(words: tuple[str, ...], text: str, start: int, end: int) -> bool:
    """Whether one of `words` (lower case) stands shortly before, or right after, on its own or written together."""
    around = text[max(0, start - BEFORE) : start] + " | " + text[end : end + AFTER]
    window = " " + " ".join(around.lower().translate(_PUNCTUATION).split()) + " "
    for word in words:
        if word in window and (not word.isascii() or f" {word} " in window or f" {word}s " in window):
            return True
        if " " in word and f" {word.replace(' ', '')} " in window:
            return True
    return False
