"""Voice activity: finds the stretches of speech in a stream of samples, each short enough for a model to write down."""

from __future__ import annotations

from typing import Any

import numpy
from msgspec import Struct
from numpy.typing import NDArray

from catena.core.errors import EngineError
from catena.run.engines.onnx import runtime
from catena.run.engines.onnx.speech.resampling import RATE

Samples = NDArray[numpy.float32]
# What Silero VAD reads: frames of 32 ms, each with the last 4 ms before it, and the state of its memory
# (https://github.com/snakers4/silero-vad, src/silero_vad/sequence_vad.py).
FRAME, CONTEXT, STATE_SHAPE = 512, 64, (1, 1, 128)
# As in the same project: speech begins at the upper probability and ends below the lower one.
BEGINS_AT, ENDS_AT = 0.5, 0.35
MIN_SPEECH_FRAMES, MIN_SILENCE_FRAMES = 4, 16  # 0.13 s and 0.51 s
PAD = 3_200  # 0.2 s of what is around speech belongs to it
# The speech model was trained on up to 30 s and is best below 15 s; a longer stretch is cut where it is most quiet.
MAX_FRAMES = 15 * RATE // FRAME


class Speech(Struct, frozen=True):
    """A stretch of speech: its first sample's number in the stream, its samples, and the mean probability of speech."""

    start: int
    samples: Samples
    probability: float


class Listener:
    """Feed samples in order, then `flush`; each gives the stretches that are complete."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._hidden = numpy.zeros(STATE_SHAPE, dtype=numpy.float32)
        self._cell = numpy.zeros(STATE_SHAPE, dtype=numpy.float32)
        self._context = numpy.zeros(CONTEXT, dtype=numpy.float32)
        self._waiting = numpy.zeros(0, dtype=numpy.float32)  # less than a frame
        self._held = numpy.zeros(0, dtype=numpy.float32)  # what may still belong to a stretch
        self._origin = 0  # the number of the first sample held
        self._seen = 0  # samples that were listened to
        self._spoken: list[float] = []  # the probability of each frame of the stretch that goes on
        self._begin = 0  # the number of its first frame's first sample
        self._silent = 0  # how many frames at its end are without speech

    def feed(self, samples: Samples) -> list[Speech]:
        """Listen to more samples."""
        waiting = numpy.concatenate([self._waiting, samples])
        num_frames = len(waiting) // FRAME
        frames, self._waiting = waiting[: num_frames * FRAME], waiting[num_frames * FRAME :]
        if not num_frames:
            return []
        self._held = numpy.concatenate([self._held, frames])
        found = [speech for each in self._probabilities(frames) for speech in self._step(each)]
        self._forget()
        return found

    def flush(self) -> list[Speech]:
        """What is left when nothing follows."""
        tail = self._waiting
        found = self.feed(numpy.zeros(FRAME - len(tail), dtype=numpy.float32)) if len(tail) else []
        return [*found, *self._end(len(self._spoken) - self._silent)] if self._spoken else found

    def _probabilities(self, samples: Samples) -> list[float]:
        frames = samples.reshape(-1, FRAME)
        before = numpy.concatenate([self._context[None, :], frames[:-1, -CONTEXT:]])
        self._context = frames[-1, -CONTEXT:].copy()
        feeds = {"input": numpy.concatenate([before, frames], axis=1), "h": self._hidden, "c": self._cell}
        try:
            found, self._hidden, self._cell = self._runner.run(["speech_probs", "hn", "cn"], feeds)
        except runtime.ERRORS as error:
            raise EngineError("the voice activity model failed") from error
        return [float(each) for each in found]

    def _step(self, probability: float) -> list[Speech]:
        """Hear one more frame."""
        place, self._seen = self._seen, self._seen + FRAME
        if not self._spoken:
            if probability >= BEGINS_AT:
                self._begin, self._spoken, self._silent = place, [probability], 0
            return []
        self._spoken.append(probability)
        self._silent = self._silent + 1 if probability < ENDS_AT else 0
        if self._silent >= MIN_SILENCE_FRAMES:
            return self._end(len(self._spoken) - self._silent)
        if len(self._spoken) >= MAX_FRAMES:
            half = MAX_FRAMES // 2
            return self._end(half + int(numpy.argmin(self._spoken[half:])) + 1, goes_on=True)
        return []

    def _end(self, num_frames: int, *, goes_on: bool = False) -> list[Speech]:
        """End the stretch after so many of its frames; what comes after them may go on as the next."""
        spoken, rest = self._spoken[:num_frames], self._spoken[num_frames:]
        end = self._begin + num_frames * FRAME
        start = max(self._begin - PAD, self._origin)
        stretch = self._held[start - self._origin : end + (0 if goes_on else PAD) - self._origin]
        self._spoken, self._silent = [], 0
        if goes_on:
            self._spoken, self._begin = rest, end
            self._held, self._origin = self._held[end - self._origin :], end
        if sum(each >= BEGINS_AT for each in spoken) < MIN_SPEECH_FRAMES:
            return []
        return [Speech(start, stretch, float(numpy.mean(spoken)))]

    def _forget(self) -> None:
        """Let go of what cannot belong to a stretch any more."""
        keep_from = (self._begin if self._spoken else self._seen) - PAD
        if keep_from > self._origin:
            self._held, self._origin = self._held[keep_from - self._origin :], keep_from
