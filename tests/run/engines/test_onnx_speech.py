"""The parts of speech to text: sample rates, decoded files, stretches of speech, and what stops endless text."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import miniaudio
import numpy
import psutil
import pytest
from tests.conformance.conftest import SPEECH, Loaded, stored
from tests.speech import clips

from catena.core.errors import EngineError, FormatError, InputError, MissingExtraError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import Delta, Listened, Segment, TranscribeRequest
from catena.core.protocols import Placement
from catena.run.engines import onnx
from catena.run.engines.onnx.speech import samples
from catena.run.engines.onnx.speech.child import NO_AUDIO
from catena.run.engines.onnx.speech.listening import MAX_FRAMES, Listener
from catena.run.engines.onnx.speech.resampling import RATE, Resampler
from catena.run.engines.onnx.speech.writing import MAX_TOKENS_S, Line, goes_in_circles

pytestmark = pytest.mark.anyio
CLIP = "austen-0890"


@pytest.fixture(scope="module")
async def moonshine(anyio_backend: str) -> AsyncGenerator[Loaded]:
    engine, model, place = onnx.Engine(), stored(SPEECH), Placement(threads=1)
    session = await engine.load(model, place)
    yield Loaded(engine, model, place, session)
    await session.close()


def resampled(block: numpy.ndarray, rate: int, sizes: list[int]) -> numpy.ndarray:
    """`block` fed in pieces of these sizes, then the rest."""
    resampler, found, start = Resampler(rate), [], 0
    for size in [*sizes, len(block)]:
        found.append(resampler.feed(block[start : start + size]))
        start += size
    return numpy.concatenate([*found, resampler.flush()])


def sine(hertz: float, rate: int, seconds: float = 1.0) -> numpy.ndarray:
    return numpy.sin(2 * numpy.pi * hertz * numpy.arange(int(rate * seconds)) / rate).astype(numpy.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 12_345])
def test_a_tone_below_half_the_lower_rate_passes_any_change_of_rate_unchanged(rate: int) -> None:
    hertz = 0.4 * min(rate, RATE)
    found = resampled(sine(hertz, rate), rate, [1, 7, 1000])
    assert len(found) == RATE
    error = (found - sine(hertz, RATE))[500:-500]
    assert numpy.abs(error).max() < 0.01


@pytest.mark.parametrize(("rate", "hertz"), [(48_000, 9_500), (48_000, 20_000), (44_100, 11_000), (96_000, 30_000)])
def test_a_tone_that_the_new_rate_cannot_hold_is_gone_and_not_another_tone(rate: int, hertz: float) -> None:
    found = resampled(sine(hertz, rate), rate, [])
    assert 20 * numpy.log10(numpy.abs(found[500:-500]).max()) < -70


def test_the_same_samples_come_out_however_they_are_cut() -> None:
    rng = numpy.random.default_rng(0)
    block = rng.standard_normal(30_000).astype(numpy.float32)
    expected = resampled(block, 44_100, [])
    for sizes in ([1] * 50, [4096] * 6, [0, 29_999], [100, 10_000, 3]):
        assert numpy.array_equal(resampled(block, 44_100, sizes), expected)


def test_samples_at_the_rate_of_the_models_are_left_alone() -> None:
    block = sine(100, RATE)
    assert numpy.array_equal(resampled(block, RATE, [10]), block)


async def decoded(audio: bytes) -> tuple[int, numpy.ndarray]:
    with anyio.fail_after(30):
        async with samples.opened(audio) as source:
            return source.rate, numpy.concatenate([block async for block in source.blocks()])


async def test_a_wav_file_gives_its_samples() -> None:
    rate, found = await decoded(clips.path(CLIP).read_bytes())
    expected = numpy.frombuffer(clips.frames(CLIP), dtype="<i2") / 32768
    assert rate == RATE
    assert numpy.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("form", clips.FORMATS)
async def test_a_compressed_file_gives_the_samples_of_its_wav(form: str) -> None:
    rate, found = await decoded(clips.path(clips.COPIED, form).read_bytes())
    expected = numpy.frombuffer(clips.frames(clips.COPIED), dtype="<i2") / 32768
    assert rate == RATE
    if form == "flac":
        assert numpy.array_equal(found, expected.astype(numpy.float32))
        return
    # A lossy one may begin a little later, and differs a little.
    assert abs(len(found) - len(expected)) <= 2500
    size = len(expected) - 3000
    likeness = max(
        float(numpy.corrcoef(found[shift : shift + size], expected[:size])[0, 1])
        for shift in range(min(2500, len(found) - size))
    )
    assert likeness > 0.98


async def test_channels_are_mixed_to_one() -> None:
    left, right = 8000, -4000
    audio = clips.wav(struct.pack("<hh", left, right) * 9000, rate=8000, channels=2)
    rate, found = await decoded(audio)
    assert (rate, len(found)) == (8000, 9000)
    assert numpy.allclose(found, (left + right) / 2 / 32768, atol=1e-4)


@pytest.mark.parametrize(
    "audio", [b"", b"x", b"\0" * 9999, b"RIFF" + bytes(60), b"OggS" + bytes(99), b"fLaC" + bytes(99)]
)
async def test_bytes_that_are_no_audio_are_refused(audio: bytes) -> None:
    with pytest.raises(InputError) as caught:
        await decoded(audio)
    assert caught.value.param == "file"


async def test_a_rate_out_of_bounds_is_refused() -> None:
    for rate in (4_000, 300_000):
        with pytest.raises(UnsupportedError, match="samples per second"):
            await decoded(clips.wav(bytes(4000), rate=rate))


async def test_bytes_changed_at_random_never_hang_or_break_the_engine() -> None:
    rng = numpy.random.default_rng(1)
    whole = clips.path(CLIP).read_bytes()[:20_000]
    for _ in range(6):
        damaged = bytearray(whole)
        for place in rng.integers(0, 200, 8):
            damaged[place] = int(rng.integers(256))
        try:
            await decoded(bytes(damaged))
        except InputError:
            continue


async def test_a_reader_that_goes_away_ends_the_decoding_process() -> None:
    long = clips.wav(bytes(2 * RATE * 600))
    before = set(psutil.Process().children())
    async with samples.opened(long) as source:
        (child,) = set(psutil.Process().children()) - before
        async for _ in source.blocks():
            break
    assert not child.is_running()


async def test_a_decoder_that_breaks_is_told_apart_from_a_file_that_is_bad(monkeypatch: Any) -> None:
    monkeypatch.setattr(samples, "NO_AUDIO", 99)
    with pytest.raises(EngineError, match="ended with code 3"):
        await decoded(b"nothing")


def test_the_decoding_process_and_its_reader_agree_on_the_code_for_no_audio() -> None:
    assert samples.NO_AUDIO == NO_AUDIO
    child = Path(samples.__file__).with_name("child.py")
    done = subprocess.run([sys.executable, "-I", str(child)], input=b"text", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (NO_AUDIO, b"")


def test_without_the_decoders_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        samples.check_installed()
    assert "catena[speech]" in caught.value.hint
    assert miniaudio.__name__ == "miniaudio"


def stretches(loaded: Loaded, pieces: bytes, size: int) -> list[tuple[int, int]]:
    """Where speech begins and ends, in samples, when heard in blocks of `size`."""
    heard = numpy.frombuffer(pieces, dtype="<i2").astype(numpy.float32) / 32768
    listener = Listener(loaded.session._vad)
    blocks = [heard[start : start + size] for start in range(0, len(heard), size)]
    found = [speech for block in blocks for speech in listener.feed(block)] + listener.flush()
    for speech in found:
        assert numpy.array_equal(
            speech.samples, numpy.pad(heard, (0, 1024))[speech.start : speech.start + len(speech.samples)]
        )
    return [(speech.start, speech.start + len(speech.samples)) for speech in found]


def test_stretches_of_speech_are_the_same_however_the_samples_come(moonshine: Loaded) -> None:
    pieces = clips.silence(1) + clips.frames(CLIP) + clips.silence(1) + clips.frames("austen-0880")
    expected = stretches(moonshine, pieces, 1 << 20)
    assert len(expected) == 2
    for size in (500, 512, 7777):
        assert stretches(moonshine, pieces, size) == expected


def test_speech_without_a_pause_is_cut_below_the_longest_length_and_nothing_is_lost(moonshine: Loaded) -> None:
    pieces = b"".join(map(clips.frames, clips.SAID)) * 2
    found = stretches(moonshine, pieces, RATE)
    longest = MAX_FRAMES * 512 + 2 * 3200
    assert len(found) >= 3
    assert all(end - start <= longest for start, end in found)
    for (_, end), (start, _) in itertools.pairwise(found):
        assert start <= end + RATE


async def test_a_long_recording_takes_no_more_memory_than_a_short_one(moonshine: Loaded) -> None:
    """Seven minutes and a half are 29 MB as float32 samples at the rate of the models, of which none stays."""
    short, audio = (clips.wav(clips.frames(CLIP) + bytes(2 * 8_000 * length), rate=8_000) for length in (8, 450))
    for _ in range(3):  # whatever the library keeps for good, it has then
        async for _ in moonshine.session.transcribe(TranscribeRequest("m", short)):
            pass
    process, highest = psutil.Process(), 0
    before = process.memory_info().rss
    with anyio.fail_after(60):
        async for event in moonshine.session.transcribe(TranscribeRequest("m", audio)):
            highest = max(highest, process.memory_info().rss)
            if isinstance(event, Listened):
                assert event.duration_s > 450
    assert highest - before < 20 << 20


@pytest.mark.parametrize(
    ("tokens", "is_circle"),
    [
        ([1] * 16, True),
        ([1] * 15, False),
        ([9, 8, *[1, 2, 3] * 6], True),
        ([1, 2, 3] * 5, False),
        ([*range(16)] * 4, True),
        ([*range(16)] * 3, False),
        (list(range(200)), False),
        ([5, 5, 5, 5, 7, 7, 7, 7], False),
    ],
)
def test_text_that_says_the_same_again_and_again_is_noticed(tokens: list[int], is_circle: bool) -> None:
    assert goes_in_circles(tokens) is is_circle


def test_noise_is_written_down_with_no_more_tokens_than_speech_could_have(moonshine: Loaded) -> None:
    noise = numpy.random.default_rng(0).standard_normal(4 * RATE).astype(numpy.float32) * 0.3
    line = Line(moonshine.session._model, noise)
    while not line.is_done:
        line.step()
    assert len(line.tokens) <= 4 * MAX_TOKENS_S


async def test_a_stretch_that_goes_in_circles_says_that_it_was_cut(moonshine: Loaded, monkeypatch: Any) -> None:
    monkeypatch.setattr("catena.run.engines.onnx.speech.writing.goes_in_circles", lambda tokens: len(tokens) == 3)
    audio = clips.path(CLIP).read_bytes()
    events = [event async for event in moonshine.session.transcribe(TranscribeRequest("m", audio))]
    (segment,) = (event for event in events if isinstance(event, Segment))
    assert segment.is_cut and len(segment.tokens) == 3
    assert "".join(event.text for event in events if isinstance(event, Delta)) == segment.text


async def test_models_that_are_no_pair_are_refused(moonshine: Loaded) -> None:
    paths = {**moonshine.model.paths, "decoder_model_merged.onnx": moonshine.model.path("weights")}
    with pytest.raises(FormatError, match="no pair"):
        await onnx.Engine().load(StoredModel(moonshine.model.manifest, "x", paths), moonshine.placement)
    paths = {**moonshine.model.paths, "silero_vad_16k_sequence.onnx": moonshine.model.path("weights")}
    with pytest.raises(FormatError, match="voice activity"):
        await onnx.Engine().load(StoredModel(moonshine.model.manifest, "x", paths), moonshine.placement)
