"""One batch as it is kept: what is asked, how far it has come, and what came of it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Status = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
OPEN: frozenset[Status] = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why a batch failed; `line` counts the lines of its input from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Counts(Struct, frozen=True):
    """Requests of a batch; `failed` were answered with an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Spent(Struct, frozen=True):
    """Tokens of all requests that were completed."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class Batch(Struct, frozen=True):
    """Times in Unix seconds: `at` says when each status was reached.

    Once `outcome` is set the work is over, and the ids of the files that hold it are chosen: only putting them in
    place is left, which can be done any number of times.
    """

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    expires_at: int
    output_keep_s: int | None = None
    metadata: dict[str, str] | None = None
    status: Status = "validating"
    at: dict[str, int] = {}
    outcome: Status | None = None
    model: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    problems: tuple[Problem, ...] = ()
    counts: Counts = Counts()
    spent: Spent = Spent()

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done."""
        return self.status in OPEN
