"""Time in one place, so that tests can hold it still: Unix nanoseconds for records, monotonic seconds for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_ns() -> int:
    """Wall-clock time in nanoseconds since the Unix epoch (UTC)."""
    return time.time_ns()


def monotonic_s() -> float:
    """Seconds on a clock that never goes back; only differences mean something."""
    return time.monotonic()


def iso(at_ns: int) -> str:
    """`at_ns` (Unix nanoseconds) as RFC 3339 in UTC with milliseconds, e.g. `2026-11-24T08:15:02.123Z`."""
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ns % 1_000_000_000 // 1_000_000:03d}Z"
