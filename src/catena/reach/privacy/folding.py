"""Undoes what hides text from detectors, with an exact map from every folded character back to the original."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

import re2
from msgspec import Struct

# What is decoded of one text, in all, and how often what was decoded is looked through again.
MAX_DECODED_CHARACTERS = 1 << 20
MAX_DEPTH = 3
_LOOKALIKES = str.maketrans("аеосрхуіАВСЕНКМОРТХαοΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeocpxyiABCEHKMOPTXaoABEZHIKMNOPTYX")
_options = re2.Options()
_options.log_errors = False
_ENCODED = re2.compile(r"[0-9A-Za-z+/_-]{16,}={0,2}|(?:[0-9A-Za-z._~-]*%[0-9A-Fa-f]{2})+[0-9A-Za-z._~-]*", _options)
_HEX = frozenset("0123456789abcdefABCDEF")


class Folded(Struct, frozen=True):
    """A view of a text. Character `i` stands for `original[starts[i]:ends[i]]`; None: the text itself, unchanged.

    `how` names what was undone, e.g. `fold` or `base64`; of a decoded view every span is worth the whole encoded run.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    how: str = "fold"

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original `text[start:end]` is; `start < end`."""
        if self.starts is None or self.ends is None:
            return start, end
        return min(self.starts[start:end]), max(self.ends[start:end])


def views(text: str) -> list[Folded]:
    """The views of `text` that detectors look at: first the folded whole, then what is encoded in it."""
    whole = _folded(text)
    found, left = [whole], MAX_DECODED_CHARACTERS
    waiting = [(whole, 0)]
    while waiting:
        view, depth = waiting.pop()
        for match in _ENCODED.finditer(view.text):
            run = str(match[0])
            for how, decode in _DECODERS:
                decoded = decode(run)
                if decoded is None or len(decoded) > left or decoded == run:
                    continue
                left -= len(decoded)
                start, end = view.origin(match.start(), match.end())
                plain = _folded(decoded).text
                one = Folded(plain, [start] * len(plain), [end] * len(plain), how)
                found.append(one)
                if depth + 1 < MAX_DEPTH:
                    waiting.append((one, depth + 1))
    return found


def _folded(text: str) -> Folded:
    """Compatibility forms and look-alikes as plain letters, without what has no width."""
    if text.isascii():
        return Folded(text)
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    is_same = True
    for place, letter in enumerate(text):
        if letter.isascii():
            plain = letter
        elif unicodedata.category(letter) in ("Cf", "Mn"):
            plain = ""
        elif "\ud800" <= letter <= "\udfff":
            plain = "?"  # half a character, which is in no encoding
        else:
            plain = unicodedata.normalize("NFKC", letter).translate(_LOOKALIKES)
        is_same = is_same and plain == letter
        letters.append(plain)
        starts += [place] * len(plain)
        ends += [place + 1] * len(plain)
    return Folded(text) if is_same else Folded("".join(letters), starts, ends)


def _from_base64(run: str) -> str | None:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _readable(base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None


def _from_hex(run: str) -> str | None:
    return _readable(bytes.fromhex(run[: len(run) & ~1])) if _HEX.issuperset(run) else None


def _from_url(run: str) -> str | None:
    return _readable(unquote_to_bytes(run)) if "%" in run else None


def _readable(content: bytes) -> str | None:
    """Text, None for what is none: a random run that only looks encoded."""
    text = content.decode("utf-8", "ignore")
    return (
        text
        if len(text) >= 4
        and sum(letter.isprintable() for letter in text) >= 0.9 * len(content.decode("utf-8", "replace"))
        else None
    )


_DECODERS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("base64", _from_base64),
    ("hex", _from_hex),
    ("url", _from_url),
)
