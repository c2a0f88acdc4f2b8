"""How private a piece is: a level, and compartments beside it; labels join, and nothing but an act lowers them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, get_args

from msgspec import Struct

from catena.core.errors import InputError

Level = Literal["public", "internal", "personal", "secret"]
LEVELS: tuple[Level, ...] = get_args(Level)
MAX_COMPARTMENTS = 64
_COMPARTMENT = re.compile(r"\w[\w.\-]{0,63}(:\w[\w.\-]{0,63})?")


class Label(Struct, frozen=True):
    """A point of the lattice: levels in the order of LEVELS, times sets of compartments such as `customer:x`.

    `a | b` is the least label above both: what holds a piece of each is as private as that. `a <= b` says whether `b`
    is at least as private. `compartments` are sorted. After D. E. Denning, "A lattice model of secure information
    flow", Communications of the ACM 19 (1976) 236-243.
    """

    level: Level = "public"
    compartments: tuple[str, ...] = ()

    def __or__(self, other: Label) -> Label:
        if other is self or other == PUBLIC:
            return self
        level = self.level if LEVELS.index(self.level) >= LEVELS.index(other.level) else other.level
        return Label(level, tuple(sorted({*self.compartments, *other.compartments})))

    def __le__(self, other: Label) -> bool:
        is_below = LEVELS.index(self.level) <= LEVELS.index(other.level)
        return is_below and set(self.compartments) <= set(other.compartments)

    @property
    def names(self) -> tuple[str, ...]:
        """The level, then the compartments, as they stand in records."""
        return (self.level, *self.compartments)

    @classmethod
    def parse(cls, text: str) -> Label:
        """The label that words between commas, spaces or `+` name, e.g. `personal, medical`; "": public.

        What is no level is a compartment. Compartments alone are `internal`. Raises InputError.
        """
        words = [word for word in re.split(r"[\s,+]+", text) if word]
        levels: list[Level] = [level for level in LEVELS if level in words]
        named = sorted({word for word in words if word not in LEVELS})
        if len(named) > MAX_COMPARTMENTS or any(not _COMPARTMENT.fullmatch(word) for word in named):
            raise InputError(
                f"a label has at most {MAX_COMPARTMENTS} compartments, each a word or KIND:WORD",
                hint=f"levels are {', '.join(LEVELS)}; for example: personal, medical, customer:x",
            )
        return cls(levels[-1] if levels else "internal" if named else "public", tuple(named))


PUBLIC = Label()


class Mark(Struct, frozen=True):
    """What is known of where a piece came from: its label, and a source such as `file:PATH`, `tool:NAME`, `memory`,
    `screen`, `clipboard`, `knowledge:NAME`, `system` or `model`."""

    label: Label = PUBLIC
    source: str = ""


def join(labels: Iterable[Label]) -> Label:
    """The least label above all of them; PUBLIC for none."""
    found = PUBLIC
    for label in labels:
        found |= label
    return found
