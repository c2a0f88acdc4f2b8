"""A policy that lets everything go, for tests of the way there."""

from __future__ import annotations

from typing import NamedTuple

from catena.reach.privacy.clearance import Gatekeeper
from catena.reach.privacy.ledger import Ledger
from catena.reach.privacy.policy import Policy
from catena.reach.privacy.spans import Span

OPEN_POLICY = '[[rule]]\nname = "everything"\nthen = "remote"\n'


class Judged(NamedTuple):
    is_private: bool = False
    reasons: tuple[str, ...] = ()


class Blind:
    """Finds nothing."""

    def scan(self, text: str, /) -> list[Span]:
        return []


def open_gatekeeper() -> Gatekeeper:
    """Clears everything, unseen."""
    return Gatekeeper(Policy(OPEN_POLICY, "policy.toml"), Blind(), lambda text: Judged(), Ledger(b"test"))
