"""Reads the words of health, and tells a mention of somebody's health from one of medicine in general."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec
import re2
from msgspec import Struct

from catena.reach.privacy.identifiers.table import Gate

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 64 << 20
# Of anatomy and of modifiers a condition of several words may have so many in front.
MOST = 4


class English(Struct, frozen=True, forbid_unknown_fields=True):
    """Alternations of English words, as in `data/health.toml`."""

    conditions: str
    heads: str
    modifiers: str
    anatomy: str
    injured: str
    endings: str
    exceptions: str
    medications: str
    stems: str
    not_medicines: str
    doses: str
    forms: str
    procedures: str
    procedure_heads: str
    procedure_endings: str
    not_procedures: str
    ambiguous: str
    signs: str


class Chinese(Struct, frozen=True, forbid_unknown_fields=True):
    """The same in Chinese."""

    conditions: str
    heads: str
    medications: str
    stems: str
    forms: str
    procedures: str
    signs: str


class Content(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `data/health.toml`."""

    english: English
    chinese: Chinese
    fields: dict[str, str]


class Lexicon:
    """Patterns of all of it. `kinds` are in the order of `gate`: kind, sureness without more, pattern."""

    def __init__(self) -> None:
        path = files("catena.reach.privacy").joinpath("data", "health.toml")
        content = msgspec.toml.decode(path.read_bytes(), type=Content)
        english, chinese = content.english, content.chinese
        self.gate = Gate()
        self.kinds: list[tuple[str, str, Any]] = []
        self.ambiguous = frozenset(english.ambiguous.split("|"))
        self.not_words = frozenset(
            "|".join((english.exceptions, english.not_medicines, english.not_procedures)).split("|")
        )
        self.signs = re2.compile(english.signs, _OPTIONS)
        self.signs_chinese = re2.compile(chinese.signs, _OPTIONS)
        for kind, sureness, core, pattern in (*_english(english), *_chinese(chinese)):
            # The gate looks for the word alone: what may stand around it would make its automaton large.
            self.gate.add(core)
            self.kinds.append((kind, sureness, re2.compile(pattern, _OPTIONS)))
        self.gate.close()
        self.fields = [
            (kind.removeprefix("chinese_"), re2.compile(_field(kind, names), _OPTIONS))
            for kind, names in content.fields.items()
        ]
        self.field_gate = Gate()
        for kind, names in content.fields.items():
            self.field_gate.add(_field(kind, names))
        self.field_gate.close()


def _words(listed: str) -> str:
    """An alternation with longer words first, blanks as blanks or hyphens, apostrophes of both kinds."""
    words = {word.strip() for word in listed.replace("\n", "|").split("|") if word.strip()}
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return "|".join(word.replace(" ", "[ -]").replace("'", "['’]?") for word in ordered)


def _english(words: English) -> Iterator[tuple[str, str, str, str]]:
    """Kind, sureness, core and pattern: words listed, made of parts, or told by their ending."""
    anatomy = _words(words.anatomy)
    before = f"(?:(?:{_words(words.modifiers)}|{anatomy})[ -])"
    side = "(?:the |his |her |my |left |right |lower |upper |both |bilateral ){0,2}"
    part = f"(?:(?:{anatomy})[ -]){{0,2}}(?:{anatomy})s?"
    place = f"(?: (?:of|in|to) {side}{part})?"
    for sureness, lead, core, end in (
        ("listed", f"{before}{{0,{MOST}}}", f"(?:{_words(words.conditions)})\\b", place),
        ("made", f"{before}{{1,{MOST}}}", f"(?:{_words(words.heads)})\\b", place),
        ("made", "", f"(?:{words.injured})\\b", f" {side}(?:{anatomy})s?\\b"),
        ("ending", f"{before}{{0,{MOST}}}", f"[a-z]{{3,24}}(?:{words.endings})\\b", ""),
    ):
        yield "health_condition", sureness, rf"(?i)\b{core}", rf"(?i)\b{lead}{core}{end}"
    dose, form = f"(?:{words.doses})", f"(?i:{words.forms})"
    tail = f"(?:[ -]{form}\\b){{0,3}}(?:,? \\(?{dose}\\)?)?(?: {form}\\b){{0,2}}"
    known, stem = f"(?:{_words(words.medications)})\\b", f"[a-z]{{3,16}}(?:{words.stems})\\b"
    yield "medication", "listed", rf"(?i)\b{known}", rf"(?i)\b{known}{tail}"
    yield "medication", "ending", rf"(?i)\b{stem}", rf"(?i)\b{stem}{tail}"
    dosed = rf"\b[A-Za-z][A-Za-z-]{{3,24}}(?: {form})? {dose}(?: {form}\b){{0,2}}"
    yield "medication", "dosed", rf"[a-z] {dose}", dosed
    how = "(?:laparoscopic|total|partial|robotic|radical|emergency|open|left|right|bilateral|upper|lower)"
    images = "(?:mri|ct|pet|x-?rays?|ultrasound|radiograph|echo|doppler)\\b"
    for sureness, lead, core, end in (
        ("listed", f"(?:(?:{anatomy})[ -]){{0,3}}", f"(?:{_words(words.procedures)})\\b", place),
        ("made", f"(?:(?:{anatomy}|{how})[ -]){{1,4}}", f"(?:{_words(words.procedure_heads)})\\b", ""),
        ("made", f"(?:(?:{anatomy})[ -]){{0,2}}", images, f"(?: scans?)? (?:of )?{side}{part}\\b"),
        ("ending", f"(?:{how}[ -]){{0,3}}", f"[a-z]{{3,20}}(?:{words.procedure_endings})\\b", ""),
    ):
        yield "procedure", sureness, rf"(?i)\b{core}", rf"(?i)\b{lead}{core}{end}"


def _chinese(words: Chinese) -> Iterator[tuple[str, str, str, str]]:
    """The same in Chinese."""
    degree = "急性|慢性|重度|轻度|中度|原发性|继发性|先天性|复发性"
    salt = "盐酸|硫酸|苯磺酸|马来酸|枸橼酸|富马酸|琥珀酸|复方|注射用|酒石酸"
    unit = "mg|g|ml|mL|ug|μg|毫克|克|毫升|片|粒|单位|万单位|支|袋"
    dose = rf"(?:[ (（]*\d{{1,4}}(?:\.\d{{1,3}})?\s?(?:{unit})[)）]?)?"
    for kind, sureness, lead, core, end in (
        ("health_condition", "listed", f"(?:{degree}|晚期|早期|双侧|左侧|右侧|左|右)*", words.conditions, ""),
        ("health_condition", "ending", rf"(?:{degree})[\p{{Han}}]{{1,6}}?", words.heads, ""),
        ("medication", "listed", f"(?:{salt})?", words.medications, f"(?:{words.forms})?{dose}"),
        ("medication", "ending", r"[\p{Han}]{1,4}", words.stems, f"钠?(?:{words.forms})?{dose}"),
        ("procedure", "listed", "", words.procedures, ""),
    ):
        yield kind, sureness, f"(?:{core})", f"{lead}(?:{core}){end}"


def _field(kind: str, names: str) -> str:
    """A field at the start of a line or part, or of a Chinese one, and what fills it."""
    if kind.startswith("chinese_"):
        return rf"(?:{names})(?:为|是|：|:|\s)*[：:]\s*([^\n。；;]{{2,80}})"
    name = _words(names).replace("[ -]", "[ _-]?")
    start = r"(?:^|[\n.;|{\"'(]|\s\s)[ \t*•-]*\"?"
    return rf"(?i){start}(?:{name})(?:\(s\))?\"?[ \t]*(?::|=|\.{{3,}}| {{3,}})[ \t]*[\"'\[]*([^\n\"|{{}}]{{2,160}})"
