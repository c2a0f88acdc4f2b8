"""The line before one session: requests of many callers, let in by fair shares. Pure bookkeeping, it waits for nothing.

The next to be let in is the caller with the fewest leases running; among equals, the one whose turn was longest ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import anyio


class Waiter:
    """One request in line since `since_s` (core.clock.monotonic_s); `event` is set when it was granted or failed."""

    __slots__ = ("caller", "error", "event", "is_background", "is_granted", "since_s")

    def __init__(self, caller: str, since_s: float, *, is_background: bool = False) -> None:
        self.caller = caller
        self.since_s = since_s
        self.is_background = is_background
        self.event = anyio.Event()
        self.is_granted = False
        self.error: Exception | None = None


class Line:
    """Who waits, and how many leases each caller has running."""

    __slots__ = ("_callers", "_count", "_running")

    def __init__(self) -> None:
        # Callers in the order of their turns; within one, first come, first served.
        self._callers: dict[str, deque[Waiter]] = {}
        self._running: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiter]:
        for waiters in self._callers.values():
            yield from waiters

    def join(self, waiter: Waiter) -> None:
        """Stand in line; a caller that has nobody there yet gets the last turn."""
        self._callers.setdefault(waiter.caller, deque()).append(waiter)
        self._count += 1

    def leave(self, waiter: Waiter) -> None:
        """Go without having been let in."""
        waiters = self._callers[waiter.caller]
        waiters.remove(waiter)
        self._count -= 1
        if not waiters:
            del self._callers[waiter.caller]

    def take(self, before_s: float | None = None) -> Waiter | None:
        """Let the next one in, or, with `before_s`, the next one that came no later; None if there is none.

        Its lease counts as running from here on.
        """
        chosen, fewest = None, 0
        for caller, waiters in self._callers.items():
            running = self._running.get(caller, 0)
            if (chosen is None or running < fewest) and (before_s is None or waiters[0].since_s <= before_s):
                chosen, fewest = caller, running
        if chosen is None:
            return None
        waiters = self._callers.pop(chosen)
        waiter = waiters.popleft()
        if waiters:
            self._callers[chosen] = waiters
        self._count -= 1
        self.start(chosen)
        return waiter

    def start(self, caller: str) -> None:
        """A lease of `caller` runs."""
        self._running[caller] = self._running.get(caller, 0) + 1

    def stop(self, caller: str) -> None:
        """A lease of `caller` ended."""
        running = self._running[caller] - 1
        if running:
            self._running[caller] = running
        else:
            del self._running[caller]

    def clear(self) -> list[Waiter]:
        """Empty the line and give who stood in it."""
        waiters = list(self)
        self._callers.clear()
        self._count = 0
        return waiters

    def oldest_s(self) -> float | None:
        """Since when the first of all waits."""
        return min((waiters[0].since_s for waiters in self._callers.values()), default=None)

    def newest(self, caller: str) -> Waiter | None:
        """The last that `caller` put in line."""
        waiters = self._callers.get(caller)
        return waiters[-1] if waiters else None
