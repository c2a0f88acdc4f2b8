"""What every session that transcribes must do; run over each registered engine, plug-ins too (see test_generator)."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import anyio
import pytest
from tests.conformance.conftest import Loaded
from tests.speech import clips

from catena.core.errors import EngineError, InputError, TooLargeError, UnsupportedError
from catena.core.messages import Delta, Event, Finished, Listened, Segment, Timings, TranscribeRequest, Usage

pytestmark = pytest.mark.anyio
BOUND_S = 120.0
FIRST, SECOND = "austen-0930", "austen-0880"
CLIP = clips.path(FIRST).read_bytes()


async def transcribe(loaded: Loaded, audio: bytes = CLIP, **fields: Any) -> list[Event | Segment | Listened]:
    with anyio.fail_after(BOUND_S):
        return [event async for event in loaded.session.transcribe(TranscribeRequest("m", audio, **fields))]


def said(events: list[Event | Segment | Listened]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_what_is_said_is_written_down(transcriber: Loaded) -> None:
    for name, text in clips.SAID.items():
        events = await transcribe(transcriber, clips.path(name).read_bytes())
        assert clips.word_errors(text, said(events)) <= 1, said(events)


async def test_events_come_in_the_stated_order(transcriber: Loaded) -> None:
    events = await transcribe(transcriber)
    kinds = [type(event) for event in events]
    assert kinds[0] is Delta
    assert kinds[-5:] == [Segment, Listened, Finished, Usage, Timings]
    assert set(kinds[:-5]) == {Delta}
    (finished, usage) = events[-3:-1]
    assert isinstance(finished, Finished) and finished.reason == "stop"
    assert isinstance(usage, Usage) and usage.prompt_tokens > 0 and usage.completion_tokens > 0


async def test_segments_say_what_was_said_and_when(transcriber: Loaded) -> None:
    samples = clips.silence(1) + clips.frames(FIRST) + clips.silence(2) + clips.frames(SECOND)
    events = await transcribe(transcriber, clips.wav(samples))
    first, second = (event for event in events if isinstance(event, Segment))
    (listened,) = (event for event in events if isinstance(event, Listened))
    assert said(events) == f"{first.text} {second.text}"
    length_s = len(clips.frames(FIRST)) / 2 / clips.RATE
    assert 0.7 <= first.start_s < 1.5 and 1 + length_s - 1 < first.end_s <= 1 + length_s + 0.5
    assert 3 + length_s - 0.5 <= second.start_s < second.end_s <= listened.duration_s
    assert listened.duration_s == pytest.approx(len(samples) / 2 / clips.RATE)
    for segment in (first, second):
        assert segment.tokens and segment.mean_logprob <= 0 <= segment.speech <= 1 and not segment.is_cut


async def test_audio_without_speech_gives_no_text(transcriber: Loaded) -> None:
    for samples in (clips.silence(2), clips.tone(2), clips.silence(0.01)):
        events = await transcribe(transcriber, clips.wav(samples))
        assert [type(event) for event in events] == [Listened, Finished, Usage, Timings]


async def test_the_same_speech_gives_the_same_text_alone_and_beside_others(transcriber: Loaded) -> None:
    expected = said(await transcribe(transcriber))
    found: list[str] = []

    async def one() -> None:
        found.append(said(await transcribe(transcriber)))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert found == [expected] * 3


@pytest.mark.parametrize("audio", [b"", b"no audio at all", CLIP[:44] + b"", b"ID3" + bytes(2000)])
async def test_what_holds_no_samples_is_refused_or_silent(transcriber: Loaded, audio: bytes) -> None:
    try:
        events = await transcribe(transcriber, audio)
    except InputError as error:
        assert error.param == "file"
    else:
        assert said(events) == ""


async def test_audio_that_is_too_long_is_refused(transcriber: Loaded) -> None:
    with pytest.raises(TooLargeError):
        await transcribe(transcriber, max_s=1.0)


async def test_a_language_that_the_model_does_not_write_is_refused(transcriber: Loaded) -> None:
    with pytest.raises(UnsupportedError) as caught:
        await transcribe(transcriber, language="xx")
    assert caught.value.param == "language"


async def test_closing_the_events_stops_the_work_and_leaves_the_session_usable(transcriber: Loaded) -> None:
    long = clips.wav(clips.frames(FIRST) * 40)
    with anyio.fail_after(BOUND_S / 2):
        async with aclosing(transcriber.session.transcribe(TranscribeRequest("m", long))) as events:
            assert isinstance(await anext(events), Delta)
        with anyio.move_on_after(0.3) as scope:
            await transcribe(transcriber, long)
        assert scope.cancelled_caught
        assert said(await transcribe(transcriber))


async def test_a_closed_session_refuses(transcriber: Loaded) -> None:
    session = await transcriber.engine.load(transcriber.model, transcriber.placement)
    await session.close()
    with pytest.raises(EngineError):
        [event async for event in session.transcribe(TranscribeRequest("m", CLIP))]
