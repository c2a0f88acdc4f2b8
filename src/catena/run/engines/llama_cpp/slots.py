"""Slots of a session, handed out first come, first served, so that no request waits inside the library."""

from __future__ import annotations

from collections import deque

import anyio


class Slots:
    """`total` slots; a request takes as many as it has choices, all at once. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    def try_take(self, count: int) -> bool:
        """Take `count` slots if they are free and nobody waits; never blocks."""
        if self._waiting or self.free < count:
            return False
        self.free -= count
        return True

    async def take(self, count: int) -> None:
        """Wait in line for `count` slots. Cancelled: whatever was granted goes back, and the line moves on."""
        if self.try_take(count):
            return
        place = (count, anyio.Event())
        self._waiting.append(place)
        try:
            await place[1].wait()
        except BaseException:
            if place[1].is_set():
                self.free += count
            else:
                self._waiting.remove(place)
            self._advance()
            raise

    def give(self, count: int) -> None:
        """Put `count` slots back."""
        self.free += count
        self._advance()

    def _advance(self) -> None:
        while self._waiting and self.free >= self._waiting[0][0]:
            count, granted = self._waiting.popleft()
            self.free -= count
            granted.set()
