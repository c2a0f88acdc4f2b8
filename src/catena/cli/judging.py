"""A gatekeeper for commands that decide without sending: it remembers nothing and counts nothing."""

from __future__ import annotations

import secrets
from pathlib import Path

from catena.core import config
from catena.core.messages import ChatRequest, Label, Mark, Message, Text
from catena.reach.privacy.clearance import Asker, Gatekeeper
from catena.reach.privacy.context import judge
from catena.reach.privacy.ledger import Ledger
from catena.reach.privacy.policy import Policy
from catena.reach.privacy.scanning import scanner


def policy_of(file: Path | None) -> Policy:
    """The policy of `file`, or the one in force in the state folder. Raises ConfigError."""
    return Policy.of(config.home()) if file is None else Policy.read(file)


def gatekeeper(policy: Policy) -> Gatekeeper:
    """One with every detector, for this command alone."""
    return Gatekeeper(policy, scanner(), judge, Ledger(secrets.token_bytes(32)))


def turn(text: str, *, label: str = "", source: str = "", key: str = "local") -> tuple[ChatRequest, Asker]:
    """A turn that says `text`, and who asks it."""
    part = Text(text, Mark(Label.parse(label), source))
    return ChatRequest("any/model", (Message("user", (part,)),)), Asker(key)
