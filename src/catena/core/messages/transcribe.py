"""Speech to text: what is asked of a model that transcribes and what streams back.

Order: for each segment any number of Delta (choice 0), then its Segment; after the last segment one Finished, one
Usage, one Timings, as in core.messages.events.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class TranscribeRequest(Struct, frozen=True, tag="transcribe"):
    """Write down the speech in `audio`: the bytes of a WAV, FLAC, MP3 or Ogg Vorbis file.

    `language` is that of the speech (ISO 639-1) where the caller knows it; `max_s` the longest that it may last.
    """

    model: str
    audio: bytes
    language: str | None = None
    max_s: float = 14_400.0


class Segment(Struct, frozen=True, tag="segment"):
    """A stretch of speech is written down: from `start_s` to `end_s` of the audio, in seconds.

    `text` is what its deltas said; `tokens` are its ids, `mean_logprob` the mean of their natural-log probabilities,
    and `speech` the mean probability, by the voice activity model, that somebody speaks (0..1).
    `is_cut`: the model repeated itself without end, and was stopped.
    """

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]
    mean_logprob: float
    speech: float
    is_cut: bool = False


class Listened(Struct, frozen=True, tag="listened"):
    """How long the audio is and which language was written down; comes once, before Finished."""

    duration_s: float
    language: str


def question_bytes(request: TranscribeRequest) -> bytes:
    """The canonical bytes of a request, which digests are taken of: a line of JSON about it, then the audio."""
    head = msgspec.json.encode([request.model, request.language, len(request.audio)])
    return b"".join((head, b"\n", request.audio))
