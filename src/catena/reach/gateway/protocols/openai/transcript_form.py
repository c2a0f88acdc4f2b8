"""The forms of what was heard: JSON with or without segments, plain text, subtitles, and events while it is written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.messages import Delta, Event, Listened, Segment, Usage
from catena.reach.gateway.answering import Accepted
from catena.reach.gateway.protocols.openai.chat_form import DONE, comment
from catena.reach.gateway.routing import JSON

encode = msgspec.json.Encoder().encode
TEXT = "text/plain; charset=utf-8"
CONTENT_TYPES = {"json": JSON, "verbose_json": JSON, "text": TEXT, "srt": TEXT, "vtt": "text/vtt; charset=utf-8"}
# The original names languages in full.
LANGUAGES = {"en": "english"}
FRAMES_S = 100  # `seek` counts frames of 10 ms


class Heard(Struct, frozen=True):
    """All that was written down; `duration_s` of the audio."""

    text: str
    segments: tuple[Segment, ...]
    duration_s: float
    language: str
    usage: Usage | None


def body(heard: Heard, format: str) -> bytes:
    """What was heard in one of the formats of CONTENT_TYPES."""
    match format:
        case "text":
            return f"{heard.text}\n".encode()
        case "srt" | "vtt":
            spans = [(each.start_s, each.end_s, each.text) for each in heard.segments]
            return subtitles(spans, is_vtt=format == "vtt").encode()
        case "verbose_json":
            return encode(
                {
                    "task": "transcribe",
                    "language": LANGUAGES.get(heard.language, heard.language),
                    "duration": heard.duration_s,
                    "text": heard.text,
                    "segments": [_segment(index, each) for index, each in enumerate(heard.segments)],
                    "usage": {"type": "duration", "seconds": heard.duration_s},
                }
            )
        case _:
            return encode({"text": heard.text, "usage": usage_form(heard.usage)})


def subtitles(segments: Iterable[tuple[float, float, str]], *, is_vtt: bool) -> str:
    """Segments, each from when to when in seconds and its text, as WebVTT or as SubRip."""
    blocks: list[str] = []
    for number, (start_s, end_s, text) in enumerate(segments, start=1):
        mark = "." if is_vtt else ","
        # An arrow in a text would be read as times.
        block = f"{_clock(start_s, mark)} --> {_clock(end_s, mark)}\n{text.replace('-->', '->')}\n\n"
        blocks.append(block if is_vtt else f"{number}\n{block}")
    return ("WEBVTT\n\n" if is_vtt else "") + "".join(blocks)


def usage_form(usage: Usage | None) -> dict[str, Any] | None:
    """`usage` as the API writes it: what the model heard counts as audio."""
    if usage is None:
        return None
    return {
        "type": "tokens",
        "input_tokens": usage.prompt_tokens,
        "input_token_details": {"audio_tokens": usage.prompt_tokens, "text_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class TranscriptRenderer:
    """Writes the text as it grows, and all of it at the end."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._usage: Usage | None = None
        self._num_cut = 0

    def start(self, accepted: Accepted) -> bytes:
        return b""

    def event(self, event: Event | Segment | Listened) -> bytes:
        match event:
            case Delta():
                self._pieces.append(event.text)
                return _event({"type": "transcript.text.delta", "delta": event.text})
            case Usage():
                self._usage = event
            case Segment():
                self._num_cut += event.is_cut
            case _:
                pass
        return b""

    def end(self) -> bytes:
        done: dict[str, Any] = {
            "type": "transcript.text.done",
            "text": "".join(self._pieces),
            "usage": usage_form(self._usage),
        }
        if self._num_cut:
            # The headers have gone out long ago.
            done["catena_warning"] = f"the model repeated itself in {self._num_cut} segments, which were cut short"
        return _event(done) + DONE

    def sign(self, phase: str, fraction: float | None) -> bytes:
        return comment(phase, fraction)


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    """A segment with the measures by which clients find bad ones, as in the original's Whisper."""
    text = segment.text.encode()
    return {
        "id": index,
        "seek": int(segment.start_s * FRAMES_S),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": 0.0,
        "avg_logprob": segment.mean_logprob,
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": 1 - segment.speech,
    }


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:{milliseconds // 1000 % 60:02}"
        f"{mark}{milliseconds % 1000:03}"
    )


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"
