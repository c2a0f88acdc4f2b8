"""The policy: one TOML file whose first rule that fits says where a turn may go; without one that fits, it stays here.

Knows no detector and no request: it judges Facts. Its examples are part of the file and are tried whenever it is read.
"""

from __future__ import annotations

import fnmatch
import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import re2
from msgspec import Meta, Struct

from catena.core.errors import ConfigError
from catena.core.messages import PUBLIC, Label
from catena.core.messages.label import LEVELS, Level
from catena.reach.privacy.kinds import KINDS

Outcome = Literal["local", "pseudonymise", "remote"]
FILE_NAME = "policy.toml"
MAX_FILE_BYTES = 1 << 20
MAX_RULES = 1000


class Facts(Struct, frozen=True):
    """What is known of one turn before it is decided: the join of its labels, what was found, and who asks.

    `label` is what somebody said, a source, a session or an earlier piece is worth; `kinds` counts what detectors
    found. `is_private` is the judgement of its context. `sources`, `tools` name where its pieces came from and what
    tools it offers or called. `unread` pieces are seen by no detector.
    """

    label: Label = PUBLIC
    kinds: dict[str, int] = {}
    is_private: bool = False
    reasons: tuple[str, ...] = ()
    sources: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    unread: int = 0
    text: str = ""
    key: str = "local"
    session: str = ""
    door: str = ""
    provider: str = ""
    model: str = ""

    @property
    def counts(self) -> tuple[str, ...]:
        """What was found, as it stands in records: never a word of it."""
        rows = [f"{kind}:{number}" for kind, number in sorted(self.kinds.items())]
        return (*rows, *([f"unread:{self.unread}"] if self.unread else ()), *(["context"] if self.is_private else ()))

    @classmethod
    def of_counts(cls, counts: tuple[str, ...], **others: Any) -> Facts:
        """The facts that `counts` tells, with `others` beside them."""
        rows = [(kind, int(number)) for kind, _, number in (row.partition(":") for row in counts) if number]
        kinds = {kind: number for kind, number in rows if kind in KINDS}
        return cls(kinds=kinds, unread=dict(rows).get("unread", 0), is_private="context" in counts, **others)

    @property
    def found(self) -> Level:
        """The highest level of the kinds that were found."""
        found: Level = "public"
        for kind in self.kinds:
            if LEVELS.index(KINDS[kind].level) > LEVELS.index(found):
                found = KINDS[kind].level
        return found


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """[[rule]] All conditions that it names must hold; then it decides. A rule without conditions always holds.

    `level` is what it is labelled, at least; `found` what the kinds of private text in it are worth, at least.
    `compartments`, `keys`, `sessions`, `doors`, `sources`, `tools`, `providers`
    and `models` are patterns (`*`, `?`, `[…]`), one of which must fit; `kinds` are kinds of private text. `context`
    is what the context was judged to be. `unread`: whether something in it could not be read. `contains` are words, in
    any case; `pattern` is a regular expression (RE2). `reason` is told to whoever asked.
    """

    name: str
    then: Outcome
    level: Level | None = None
    found: Level | None = None
    compartments: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    context: Literal["private", "open"] | None = None
    unread: bool | None = None
    sources: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    pattern: str = ""
    reason: str = ""

    def fits(self, facts: Facts) -> bool:
        """Whether every condition holds."""
        rank = LEVELS.index(facts.label.level)
        return (
            (self.level is None or rank >= LEVELS.index(self.level))
            and (self.found is None or LEVELS.index(facts.found) >= LEVELS.index(self.found))
            and (self.context is None or (self.context == "private") == facts.is_private)
            and (self.unread is None or self.unread == (facts.unread > 0))
            and _any(self.compartments, facts.label.compartments)
            and (not self.kinds or any(kind in facts.kinds for kind in self.kinds))
            and _any(self.sources, facts.sources)
            and _any(self.tools, facts.tools)
            and _any(self.keys, (facts.key,))
            and _any(self.sessions, (facts.session,))
            and _any(self.doors, (facts.door,))
            and _any(self.providers, (facts.provider,))
            and _any(self.models, (facts.model,))
            and (not self.contains or any(word.casefold() in facts.text.casefold() for word in self.contains))
            and (not self.pattern or re2.search(self.pattern, facts.text) is not None)
        )


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """[[label]] Everything from a `source` that fits this pattern (`tool:hr_*`, `file:*/hr/*`) is at least `label`."""

    source: str
    label: str


class Example(Struct, frozen=True, forbid_unknown_fields=True):
    """[[test]] A text, what it is labelled and where it came from, and what must be decided of it."""

    text: str
    expect: Outcome
    label: str = ""
    source: str = ""
    key: str = "local"
    provider: str = ""


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """[budget] What one day (UTC) may send in all; past it, everything stays here."""

    day_bytes: Annotated[int, Meta(ge=0)] | None = None
    day_requests: Annotated[int, Meta(ge=0)] | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...] = ()
    label: tuple[Source, ...] = ()
    test: tuple[Example, ...] = ()
    budget: Budget = Budget()


class Ruling(Struct, frozen=True):
    """What the policy says of a turn, by which rule, and why."""

    outcome: Outcome
    rule: str
    reason: str


NOTHING_FITS = Ruling("local", "default", "no rule of the policy lets it go")


class Policy:
    """A policy that was read: `version` is the digest of its bytes. Made by `read` only."""

    def __init__(self, text: str, name: str) -> None:
        try:
            found = msgspec.toml.decode(text, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{name}: {error}", hint="`catena policy check FILE` says where") from error
        self.text = text
        self.version = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        self.rules, self.sources, self.tests, self.budget = found.rule, found.label, found.test, found.budget
        self._check(name)

    @classmethod
    def read(cls, path: Path) -> Policy:
        """The policy of a file. Raises ConfigError for one that cannot be read or says nonsense."""
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ConfigError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MB")
            return cls(path.read_text(encoding="utf-8"), path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name} cannot be read: {error}") from error

    @classmethod
    def shipped(cls) -> Policy:
        """The one that holds where the user wrote none."""
        file = resources.files("catena.reach.privacy").joinpath("default_policy.toml")
        return cls(file.read_text(encoding="utf-8"), "default_policy.toml")

    @classmethod
    def of(cls, home: Path) -> Policy:
        """The user's policy if there is one, else the shipped one."""
        path = home / FILE_NAME
        return cls.read(path) if path.exists() else cls.shipped()

    def decide(self, facts: Facts) -> Ruling:
        """The first rule that fits; nothing fits: local."""
        for rule in self.rules:
            if rule.fits(facts):
                return Ruling(rule.then, rule.name, rule.reason or f"rule {rule.name!r} of the policy")
        return NOTHING_FITS

    def label_of(self, source: str) -> Label:
        """What the policy says everything from `source` is worth."""
        found = PUBLIC
        for row in self.sources if source else ():
            if fnmatch.fnmatchcase(source, row.source):
                found |= Label.parse(row.label)
        return found

    def _check(self, name: str) -> None:
        if len(self.rules) > MAX_RULES:
            raise ConfigError(f"{name} has more than {MAX_RULES} rules")
        for rule in self.rules:
            if unknown := sorted(set(rule.kinds) - KINDS.keys()):
                raise ConfigError(
                    f"{name}, rule {rule.name!r}: no kind is called {unknown[0]!r}", hint=", ".join(KINDS)
                )
            if rule.pattern:
                options = re2.Options()
                options.log_errors = False
                try:
                    re2.compile(rule.pattern, options)
                except re2.error as error:
                    raise ConfigError(f"{name}, rule {rule.name!r}: {error}", hint="see RE2's syntax") from error
        for row in (*self.sources, *self.tests):
            Label.parse(row.label)


def _any(patterns: tuple[str, ...], values: frozenset[str] | tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns for value in values)
