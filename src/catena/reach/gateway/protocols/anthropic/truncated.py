"""JSON that was cut off: what of it stands, read the way the official clients read a stream so far."""

from __future__ import annotations

from typing import Any

import msgspec

_CLOSERS = {"{": "}", "[": "]"}


def whole(text: str) -> dict[str, Any] | None:
    """`text` as a JSON object; None if it is none, or not all of one."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return value if isinstance(value, dict) else None


def beginning(text: str) -> dict[str, Any]:
    """What stands of a cut JSON object: every member whose value is there, lists as far as they came; {} if nothing.

    A text that was not closed is left out, as is anything that only began.
    """
    tried = ["{}"]
    is_open: list[str] = []
    is_text = is_escaped = False
    for index, letter in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif is_text:
            is_escaped = letter == "\\"
            is_text = letter != '"'
        elif letter == '"':
            is_text = True
        elif letter in _CLOSERS:
            is_open.append(_CLOSERS[letter])
            tried.append(text[: index + 1] + _closed(is_open))
        elif letter in "}]" and is_open:
            is_open.pop()
        elif letter == ",":
            tried.append(text[:index] + _closed(is_open))
    if not is_text:
        tried.append(text + _closed(is_open))
    # Only the last few can matter: what comes after a separator that stands.
    for candidate in (*tried[:-4:-1], tried[0]):
        found = whole(candidate)
        if found is not None:
            return found
    return {}


def _closed(is_open: list[str]) -> str:
    return "".join(reversed(is_open))
