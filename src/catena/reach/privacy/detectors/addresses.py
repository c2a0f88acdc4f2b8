"""Addresses in Latin script: streets with unit, town, state and postcode as one span, boxes, fields that hold one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from catena.reach.privacy.judging.persons import persons
from catena.reach.privacy.judging.streets import Streets
from catena.reach.privacy.spans import Span

streets = lru_cache(maxsize=1)(Streets)
_NO_ADDRESS = ("http", "0x", "localhost", "/", "www.", "{", "<", "$", "\\")


def find(text: str) -> Iterable[Span]:
    """Spans of kinds address, postcode and place, joined over lines."""
    known = streets()
    hits = known.gate.hits(text)
    for index in hits:
        form, pattern = known.forms[index]
        for match in pattern.finditer(text):
            start, end = match.span(1 if pattern.groups else 0)
            if form.kind == "address" and text[start:end].split(" ", 1)[0].lower() in known.numbered:
                continue
            if form.trim:
                start = _trimmed(known, text, start, end)
                if text[start].isdigit():
                    continue
            while end > start and text[end - 1] in " ,.;\n":
                end -= 1
            yield Span(start, end, form.kind, form.score)
    if hits or ":" in text or "=" in text or "：" in text:
        yield from _fields(known, text)


def _trimmed(known: Streets, text: str, start: int, end: int) -> int:
    """Where the address begins: after the last word of the sentence before its number."""
    at = begin = start
    for word in text[start:end].split(" "):
        if word[:1].isdigit():
            break
        at += len(word) + 1
        if word.lower() in known.sentence:
            begin = at
    return begin


def _fields(known: Streets, text: str) -> Iterable[Span]:
    """What fills a field that asks for an address: with a number it is one, without a place if a person is near."""
    for match in known.field.finditer(text):
        start, end = match.span(1)
        value = text[start:end].rstrip(" ,.;\"'|)")
        letters = sum(char.isalpha() for char in value)
        is_numbered = any(char.isdigit() for char in value)
        if letters < 4 or value.startswith(_NO_ADDRESS) or "@" in value or "::" in value or "://" in value:
            continue
        if is_numbered and " " in value and letters >= 5:
            yield Span(start, start + len(value), "address", 0.86)
        elif value[0].isupper() and len(value) <= 60 and not is_numbered and persons(text).is_record(start):
            yield Span(start, start + len(value), "address" if "," in value else "place", 0.6)
    for match in known.postcode.finditer(text):
        yield Span(match.start(1), match.end(1), "postcode", 0.85)
