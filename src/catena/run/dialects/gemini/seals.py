"""Thought signatures as seals: each goes back on the part that it came with, so that parts are not joined.

https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

from typing import Any

from catena.core.messages import Message, message_text

# A seal is `gemini:text:LENGTH:SIGNATURE` for the next LENGTH letters of the text, or `gemini:call:NUMBER:SIGNATURE`.
_TEXT, _CALL = "gemini:text:", "gemini:call:"


def of_text(num_letters: int, signature: str) -> str:
    """The seal of a part of the text."""
    return f"{_TEXT}{num_letters}:{signature}"


def of_call(number: int, signature: str) -> str:
    """The seal of call `number` of an answer."""
    return f"{_CALL}{number}:{signature}"


def parts(message: Message) -> tuple[list[dict[str, Any]], dict[int, str], bool]:
    """The text of `message` in its parts, the signatures of its calls, and whether every seal found its place."""
    text, calls = message_text(message), dict[int, str]()
    found: list[dict[str, Any]] = []
    rest = text
    for seal in message.seals:
        kind = _TEXT if seal.startswith(_TEXT) else _CALL
        number, _, signature = seal.removeprefix(kind).partition(":")
        if not (seal.startswith(kind) and number.isascii() and number.isdecimal() and len(number) < 10):
            return _plain(text), {}, False
        if kind == _CALL:
            calls[int(number)] = signature
        elif int(number) <= len(rest):
            found.append({"text": rest[: int(number)], "thoughtSignature": signature})
            rest = rest[int(number) :]
        else:
            return _plain(text), {}, False
    return found + _plain(rest), calls, bool(message.seals) or not message.reasoning


def _plain(text: str) -> list[dict[str, Any]]:
    return [{"text": text}] if text else []
