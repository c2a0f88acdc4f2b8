"""Keeps a server that fails again and again from being started in a loop."""

from __future__ import annotations

from catena.core.clock import monotonic_s
from catena.core.errors import BusyError

FIRST_S, LONGEST_S = 2.0, 300.0
# A server that lived this long had started well: its end says nothing about the next one.
STEADY_S = 60.0
MAX_KNOWN = 256


class Backoff:
    """What is known of each model's last starts. One failure is forgiven; then each makes the pause twice as long."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def check(self, digest: str, name: str) -> None:
        """Raises BusyError, with the time to wait, where a start would come too early.

        Not ResourceError, for which the scheduler would close other models and try again at once.
        """
        count, failed_s = self._failures.get(digest, (0, 0.0))
        if count < 2:
            return
        left_s = failed_s + min(LONGEST_S, FIRST_S * 2 ** (min(count, 32) - 2)) - monotonic_s()
        if left_s > 0:
            raise BusyError(
                f"the server of {name} failed {count} times in a row and rests", retry_after_s=max(1.0, left_s)
            )

    def failed(self, digest: str) -> None:
        """A start failed, or a server ended by itself soon after it."""
        count, _ = self._failures.pop(digest, (0, 0.0))
        while len(self._failures) >= MAX_KNOWN:
            del self._failures[next(iter(self._failures))]
        self._failures[digest] = (count + 1, monotonic_s())

    def succeeded(self, digest: str) -> None:
        """A server did its work for a while, or until it was told to stop."""
        self._failures.pop(digest, None)
