"""What streams back from a model that generates: deltas, tool-call fragments, ends, usage, and signs of life.

Order, per choice: any number of Delta and ToolCallDelta, then one Finished. After all choices have finished: one
Usage, then one Timings. Progress may come at any time before the first Delta.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class TopLogprob(Struct, frozen=True):
    """One alternative token: its text, its bytes, and its natural-log probability."""

    token: str
    token_bytes: bytes
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """The chosen token with its log probability and the likeliest alternatives, best first."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class Delta(Struct, frozen=True, tag="delta"):
    """More text of choice `choice`: of the answer (`text`) or of the reasoning before it (`reasoning`).

    `seal` is what the maker of an answer wants back with it, unchanged, to go on from its own reasoning; opaque.
    """

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    seal: str = ""


class ToolCallDelta(Struct, frozen=True, tag="tool_call"):
    """A fragment of call number `index`; `id` and `name` are set on its first fragment only."""

    choice: int
    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class Finished(Struct, frozen=True, tag="finished"):
    """Choice `choice` is complete. `stop_sequence` is the stop text that ended it, where the engine tells."""

    choice: int
    reason: FinishReason
    stop_sequence: str | None = None


class Usage(Struct, frozen=True, tag="usage"):
    """Tokens of the whole request over all choices; `source` says where the counts come from, 0 is a value."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: Literal["reported", "counted", "estimated"] = "reported"


class Timings(Struct, frozen=True, tag="timings", omit_defaults=True):
    """Where the time went, in seconds; `queued_s` and `loading_s` are filled in by the scheduler.

    Of the `drafted` tokens that were guessed ahead, `accepted` ones were those that the model would have chosen.
    """

    queued_s: float = 0.0
    loading_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    drafted: int = 0
    accepted: int = 0


class Progress(Struct, frozen=True, tag="progress"):
    """A sign of life while nothing can be shown yet. `fraction` is 0..1 where known."""

    phase: Literal["queued", "loading", "prefill"]
    fraction: float | None = None


Event = Delta | ToolCallDelta | Finished | Usage | Timings | Progress
