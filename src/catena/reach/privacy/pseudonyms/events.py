"""Turns stand-ins back in the events of an answer, each text and each call by itself, across the borders of pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from catena.core.messages import Delta, Event, Finished, ToolCallDelta
from catena.reach.privacy.pseudonyms.table import Restorer

Make = Callable[[bool], Restorer]


class Homecoming:
    """`make(is_json)` gives a restorer for one text; what waits for its end is told before the choice is finished."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._texts: dict[tuple[int, str], Restorer] = {}
        self._calls: dict[tuple[int, int], Restorer] = {}

    def feed(self, event: Event) -> Iterator[Event]:
        """The events that `event` is, turned back; maybe none yet."""
        match event:
            case Delta():
                text = self._text(event.choice, "text", event.text)
                reasoning = self._text(event.choice, "reasoning", event.reasoning)
                if text or reasoning or event.seal or not (event.text or event.reasoning):
                    yield msgspec.structs.replace(event, text=text, reasoning=reasoning, logprobs=())
            case ToolCallDelta():
                key = (event.choice, event.index)
                restorer = self._calls.setdefault(key, self._make(True))
                yield msgspec.structs.replace(event, arguments=restorer.feed(event.arguments))
            case Finished():
                yield from self._rest(event.choice)
                yield event
            case _:
                yield event

    def _text(self, choice: int, of: str, text: str) -> str:
        if not text:
            return ""
        if (choice, of) not in self._texts:
            self._texts[choice, of] = self._make(False)
        return self._texts[choice, of].feed(text)

    def _rest(self, choice: int) -> Iterator[Event]:
        for of in ("reasoning", "text"):
            restorer = self._texts.pop((choice, of), None)
            if restorer is not None and (rest := restorer.end()):
                yield Delta(choice, reasoning=rest) if of == "reasoning" else Delta(choice, text=rest)
        for key in sorted(key for key in self._calls if key[0] == choice):
            if rest := self._calls.pop(key).end():
                yield ToolCallDelta(choice, key[1], rest)
