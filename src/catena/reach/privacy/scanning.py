"""Finds private text: every detector over every view of a text, mapped back, echoed through it, and composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from catena.core import registry
from catena.core.errors import TooLargeError
from catena.reach.privacy.folding import views
from catena.reach.privacy.spans import COUNTS, Span, compose

# A text beyond this is not scanned: whoever asks must treat it as private.
MAX_CHARACTERS = 4 << 20
Find = Callable[[str], Iterable[Span]]
Echo = Callable[[str, list[Span]], Iterable[Span]]


class Scanner:
    """All detectors, or those of `names`. Loading them reads their data once; scanning needs no model."""

    def __init__(self, names: Iterable[str] | None = None, *, least: float = COUNTS) -> None:
        chosen = registry.names("detectors") if names is None else names
        self._detectors: list[Find] = [registry.find("detectors", name) for name in chosen]
        self._echoes: list[Echo] = [registry.find("echoes", name) for name in registry.names("echoes")]
        self._least = least

    def scan(self, text: str) -> list[Span]:
        """The private stretches of `text` in order, without overlaps. Raises TooLargeError beyond MAX_CHARACTERS."""
        if len(text) > MAX_CHARACTERS:
            raise TooLargeError(
                f"a text of {len(text):,} characters is too long to be looked through (limit {MAX_CHARACTERS:,})",
                hint="split it; until then it counts as private",
            )
        found: list[Span] = []
        for number, view in enumerate(views(text)):
            spans = [span for find in self._detectors for span in find(view.text)]
            if number == 0 and spans:
                spans += self._echoed(view.text, spans)
            for span in spans:
                found.append(Span(*view.origin(span.start, span.end), span.type, span.score))
        return compose(text, found, self._least)

    def _echoed(self, text: str, spans: list[Span]) -> list[Span]:
        sure = [span for span in spans if span.score >= self._least]
        return [span for echo in self._echoes for span in echo(text, sure)]


_made: list[Any] = []


def scanner() -> Scanner:
    """The one with all detectors, made when first asked for."""
    if not _made:
        _made.append(Scanner())
    return _made[0]
