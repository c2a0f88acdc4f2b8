"""A model of speech in memory: audio in, text with its times out, as it is heard."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import numpy

from catena.core.clock import monotonic_s
from catena.core.errors import EngineError, FormatError, InputError, TooLargeError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    Delta,
    Event,
    Finished,
    Listened,
    Segment,
    Timings,
    TranscribeRequest,
    Usage,
)
from catena.core.protocols import Placement, SessionFacts
from catena.core.units import duration_text
from catena.run.encoding import texts
from catena.run.engines.onnx import runtime
from catena.run.engines.onnx.speech import samples
from catena.run.engines.onnx.speech.listening import Listener, Speech
from catena.run.engines.onnx.speech.resampling import RATE, Resampler
from catena.run.engines.onnx.speech.writing import Line, Model

T = TypeVar("T")
_ROLES = {"weights", "decoder", "tokenizer", "vad"}
_VAD_PORTS = {"input", "h", "c"}


def refusal(model: StoredModel) -> str | None:
    """Why the model cannot transcribe here; None if it can."""
    if missing := _ROLES - {file.role for file in model.manifest.files}:
        return f"{model.name} has no file of role {', '.join(sorted(missing))}"
    return None


def load(model: StoredModel, placement: Placement) -> Session:
    """Load encoder, decoder, tokenizer and voice activity model. Raises FormatError, MissingExtraError."""
    samples.check_installed()
    encoder, decoder, vad = (runtime.opened(model, placement, role) for role in ("weights", "decoder", "vad"))
    if {node.name for node in vad.get_inputs()} != _VAD_PORTS:
        raise FormatError(f"the voice activity model of {model.name} is not one that is known here")
    size = sum(model.path(role).stat().st_size for role in ("weights", "decoder", "vad"))
    facts = SessionFacts(runtime.name(), "cpu", placement.slots, 0, texts.MEMORY_FACTOR * size)
    return Session(Model.of(encoder, decoder, model.name), vad, texts.read_tokenizer(model), model, facts)


class Session:
    """Requests take turns, token by token, on all of the model's threads."""

    def __init__(self, model: Model, vad: Any, tokenizer: Any, stored: StoredModel, facts: SessionFacts) -> None:
        self.facts = facts
        self._model: Model | None = model
        self._vad = vad
        self._tokenizer = tokenizer
        self._language = str(stored.fact("language", ""))
        self._name = stored.name
        self._turn = anyio.CapacityLimiter(1)

    async def transcribe(self, request: TranscribeRequest) -> AsyncGenerator[Event | Segment | Listened]:
        """Write down what is said, a stretch of speech after the other, while the rest is still being decoded.

        Memory does not grow with the length of the audio. Raises what the seam says.
        """
        self._check(request)
        began_s = monotonic_s()
        num_states = num_tokens = num_segments = 0
        decode_s = 0.0
        async with samples.opened(request.audio) as source:
            ear = _Ear(source.rate, self._vad)
            async with aclosing(self._heard(source, ear, request.max_s)) as stretches:
                async for speech in stretches:
                    started_s = monotonic_s()
                    line = await self._in_turn(lambda speech=speech: Line(self._open_model(), speech.samples))
                    async for piece in self._written(line, num_segments):
                        yield piece
                    decode_s += monotonic_s() - started_s
                    num_states, num_tokens = num_states + line.num_states, num_tokens + len(line.tokens)
                    segment = self._segment(speech, line, ear.num_in / source.rate)
                    if segment.text:
                        num_segments += 1
                        yield segment
        yield Listened(ear.num_in / source.rate, self._language)
        yield Finished(0, "stop")
        yield Usage(num_states, num_tokens, source="counted")
        yield Timings(prefill_s=max(0.0, monotonic_s() - began_s - decode_s), decode_s=decode_s)

    async def close(self) -> None:
        """Free the model once the step that may be running has ended; later requests are refused."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._model = self._vad = None

    def _check(self, request: TranscribeRequest) -> None:
        self._open_model()
        if not request.audio:
            raise InputError("the audio is empty", param="file")
        if request.language and self._language and request.language.lower() != self._language:
            raise UnsupportedError(
                f"{self._name} writes down {self._language} only", hint="leave language out", param="language"
            )

    def _open_model(self) -> Model:
        if self._model is None:
            raise EngineError("the session is closed")
        return self._model

    async def _heard(self, source: samples.Source, ear: _Ear, max_s: float) -> AsyncGenerator[Speech]:
        async with aclosing(source.blocks()) as blocks:
            async for block in blocks:
                if (ear.num_in + len(block)) / source.rate > max_s:
                    raise TooLargeError(f"the audio is longer than {duration_text(max_s)}", param="file")
                for speech in await self._in_turn(lambda block=block: ear.hear(block)):
                    yield speech
        for speech in await self._in_turn(ear.end):
            yield speech

    async def _written(self, line: Line, num_before: int) -> AsyncGenerator[Delta]:
        """The text of a stretch as it grows, in whole characters; a blank parts it from the stretch before."""
        told = ""
        while not line.is_done:
            await self._in_turn(line.step)
            text = self._text(line.tokens)
            if text.endswith("\ufffd") and not line.is_done:
                continue  # a character of which more bytes follow
            if len(text) > len(told):
                blank = " " if num_before and not told else ""
                yield Delta(0, blank + text[len(told) :])
                told = text

    def _segment(self, speech: Speech, line: Line, heard_s: float) -> Segment:
        return Segment(
            start_s=speech.start / RATE,
            end_s=min(heard_s, (speech.start + len(speech.samples)) / RATE),
            text=self._text(line.tokens),
            tokens=tuple(line.tokens),
            mean_logprob=float(numpy.mean(line.logprobs)) if line.logprobs else 0.0,
            speech=speech.probability,
            is_cut=line.is_cut,
        )

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens)).strip()

    async def _in_turn(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._turn)


class _Ear:
    """Resampler and listener of one stream; `num_in` counts the samples that came in."""

    def __init__(self, rate: int, vad: Any) -> None:
        self.num_in = 0
        self._resampler = Resampler(rate)
        self._listener = Listener(vad)

    def hear(self, block: samples.Samples) -> list[Speech]:
        self.num_in += len(block)
        return self._listener.feed(self._resampler.feed(block))

    def end(self) -> list[Speech]:
        return [*self._listener.feed(self._resampler.flush()), *self._listener.flush()]
