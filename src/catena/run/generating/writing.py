"""Text out of the bytes of tokens: whole letters only, and nothing of a stop string or after it."""

from __future__ import annotations

import codecs


class Writer:
    """The text of one choice. What may be the beginning of a stop string is kept back until it is known not to be."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stop: str | None = None

    def write(self, piece: bytes) -> str:
        """The text that can be shown now. After `stop` is set there is no more."""
        return self._shown(self._decoder.decode(piece))

    def end(self) -> str:
        """The text that was kept back, when no token comes any more."""
        found = self._shown(self._decoder.decode(b"", final=True))
        if self.stop is None:
            found, self._held = found + self._held, ""
        return found

    def _shown(self, text: str) -> str:
        self._held += text
        ends = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if ends:
            place, self.stop = min(ends)
            shown, self._held = self._held[:place], ""
            return shown
        kept = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        shown = self._held[: len(self._held) - kept]
        self._held = self._held[len(shown) :]
        return shown


def _overlap(text: str, stop: str) -> int:
    """How many letters at the end of `text` begin `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-size:])), 0)
