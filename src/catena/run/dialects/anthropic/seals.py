"""Signed reasoning as seals: what must go back unchanged, so that the model goes on from its own thoughts.

https://platform.claude.com/docs/en/build-with-claude/extended-thinking
"""

from __future__ import annotations

from typing import Any

from catena.core.messages import Message

# A seal is `anthropic:thinking:LENGTH:SIGNATURE`, its text the next LENGTH letters of the reasoning, or
# `anthropic:redacted:DATA`.
_THINKING, _REDACTED = "anthropic:thinking:", "anthropic:redacted:"


def thinking(num_letters: int, signature: str) -> str:
    """The seal of a thinking block."""
    return f"{_THINKING}{num_letters}:{signature}"


def redacted(data: str) -> str:
    """The seal of a block whose thoughts are encrypted."""
    return _REDACTED + data


def blocks(message: Message) -> list[dict[str, Any]] | None:
    """The blocks that the reasoning of `message` came as; None if it did not come from this dialect, or has changed."""
    found: list[dict[str, Any]] = []
    rest = message.reasoning
    for seal in message.seals:
        if seal.startswith(_REDACTED):
            found.append({"type": "redacted_thinking", "data": seal.removeprefix(_REDACTED)})
        elif seal.startswith(_THINKING):
            length, _, signature = seal.removeprefix(_THINKING).partition(":")
            if not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= len(rest)):
                return None
            text, rest = rest[: int(length)], rest[int(length) :]
            found.append({"type": "thinking", "thinking": text, "signature": signature})
        else:
            return None
    return None if rest else found
