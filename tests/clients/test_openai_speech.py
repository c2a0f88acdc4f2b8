"""What the official OpenAI client must find at a running `catena up` with a real model: speech written down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.clients.conftest import Gateway, requirement, up
from tests.conftest import copied, pulled
from tests.speech import clips

pytestmark = pytest.mark.model
MODEL = "moonshine-tiny"
CLIP = "austen-0920"
SPEECH = "speech"
CLOSING_S = 30


@pytest.fixture(scope="module")
def speech(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a model that transcribes; npm brings it, so nothing can be shown without npm."""
    pulled(models_home, MODEL)
    with up(copied(models_home, tmp_path_factory.mktemp("speech") / "home")) as running:
        yield running


@pytest.fixture(scope="module")
def listener(speech: Gateway) -> Iterator[openai.OpenAI]:
    with speech.client() as client:
        yield client


def transcribe(client: openai.OpenAI, audio: Any = None, **change: Any) -> Any:
    """The answer for a clip, or for other audio."""
    if audio is None:
        audio = clips.path(CLIP)
    return client.audio.transcriptions.create(**{"file": audio, "model": MODEL, **change})


def two_sentences() -> tuple[str, bytes]:
    """Two clips with two seconds of silence between them."""
    samples = clips.frames("austen-0930") + clips.silence(2) + clips.frames("austen-0880")
    return "two.wav", clips.wav(samples)


@requirement("A01", SPEECH, "speech comes back as text, with the tokens that were heard and written as usage")
def test_speech_comes_back_as_text(listener: openai.OpenAI) -> None:
    answer = transcribe(listener)
    assert clips.word_errors(clips.SAID[CLIP], answer.text) <= 1
    assert answer.usage.type == "tokens"
    assert answer.usage.output_tokens > 10
    assert answer.usage.input_token_details.audio_tokens == answer.usage.input_tokens > 100


@requirement("A02", SPEECH, "response_format text gives the text alone")
def test_text_alone(listener: openai.OpenAI) -> None:
    assert clips.word_errors(clips.SAID[CLIP], transcribe(listener, response_format="text")) <= 1


@requirement("A03", SPEECH, "verbose_json gives language, duration, and segments with times in order")
def test_verbose(listener: openai.OpenAI) -> None:
    answer = transcribe(listener, two_sentences(), response_format="verbose_json")
    first, second = answer.segments
    assert answer.language == "english"
    assert answer.duration == pytest.approx(3.29 + 2 + 2.99, abs=0.05)
    assert 0 <= first.start < first.end <= 3.6 and 5.0 <= second.start < second.end <= answer.duration
    assert answer.text == f"{first.text} {second.text}"
    assert answer.usage.seconds == answer.duration
    assert -2 < first.avg_logprob <= 0 <= first.no_speech_prob < 0.5
    assert first.tokens


@requirement("A04", SPEECH, "timestamp_granularities segment is honoured; word is refused, as it is not known")
def test_granularities(listener: openai.OpenAI) -> None:
    ask: Any = {"response_format": "verbose_json"}
    assert transcribe(listener, timestamp_granularities=["segment"], **ask).segments
    with pytest.raises(openai.BadRequestError, match="single words") as caught:
        transcribe(listener, timestamp_granularities=["segment", "word"], **ask)
    assert caught.value.param == "timestamp_granularities"
    with pytest.raises(openai.BadRequestError, match="verbose_json"):
        transcribe(listener, timestamp_granularities=["segment"])


@requirement("A05", SPEECH, "srt and vtt give a numbered, or a headed, list of subtitles with their times")
def test_subtitles(listener: openai.OpenAI) -> None:
    srt = transcribe(listener, two_sentences(), response_format="srt")
    blocks = srt.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["1", "2"]
    assert all("," in block.splitlines()[1] and " --> " in block.splitlines()[1] for block in blocks)
    vtt = transcribe(listener, two_sentences(), response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:0") and vtt.count(" --> ") == 2


@requirement("A06", SPEECH, "a stream gives the text in pieces, then all of it with its usage")
def test_a_stream(listener: openai.OpenAI) -> None:
    *deltas, done = list(transcribe(listener, stream=True))
    assert len(deltas) > 5
    assert {each.type for each in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert "".join(each.delta for each in deltas) == done.text == transcribe(listener).text
    assert done.usage.output_tokens > 10


@requirement("A07", SPEECH, "a stream of subtitles or of verbose_json is refused")
@pytest.mark.parametrize("form", ["srt", "vtt", "verbose_json"])
def test_streams_are_of_text(listener: openai.OpenAI, form: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        transcribe(listener, stream=True, response_format=form)
    assert caught.value.param == "response_format"


@requirement("A08", SPEECH, "the language of the model may be named; another is refused")
def test_languages(listener: openai.OpenAI) -> None:
    assert transcribe(listener, language="en").text
    with pytest.raises(openai.BadRequestError, match="en only") as caught:
        transcribe(listener, language="zh")
    assert caught.value.param == "language"


@requirement("A09", SPEECH, "prompt and temperature are named in catena-warning, as they change nothing")
def test_warnings(listener: openai.OpenAI) -> None:
    raw = listener.audio.transcriptions.with_raw_response.create(
        file=clips.path(CLIP), model=MODEL, prompt="Austen", temperature=0.7
    )
    warning = raw.headers["catena-warning"]
    assert "prompt ignored" in warning and "temperature ignored" in warning
    plain = listener.audio.transcriptions.with_raw_response.create(file=clips.path(CLIP), model=MODEL, temperature=0)
    assert "catena-warning" not in plain.headers


@requirement("A10", SPEECH, "an answer and a stream carry a receipt, whose record has the model's usage")
def test_receipts(listener: openai.OpenAI, speech: Gateway) -> None:
    raw = listener.audio.transcriptions.with_raw_response.create(file=clips.path(CLIP), model=MODEL)
    record = speech.record(raw.headers["catena-receipt"])
    assert record["outcome"] == "complete"
    assert record["usage"]["completion_tokens"] == raw.parse().usage.output_tokens


@requirement("A11", SPEECH, "any rate and number of channels is heard alike")
def test_rates_and_channels(listener: openai.OpenAI) -> None:
    samples = clips.frames(CLIP)
    doubled = b"".join(samples[at : at + 2] * 4 for at in range(0, len(samples), 2))  # 32 kHz, two channels
    answer = transcribe(listener, ("stereo.wav", clips.wav(doubled, rate=32_000, channels=2)))
    assert clips.word_errors(clips.SAID[CLIP], answer.text) <= 2


@requirement("A19", SPEECH, "FLAC, Ogg Vorbis and MP3 are heard as the WAV is")
@pytest.mark.parametrize("form", clips.FORMATS)
def test_formats(listener: openai.OpenAI, form: str) -> None:
    heard = transcribe(listener, clips.path(clips.COPIED, form), response_format="verbose_json")
    assert heard.duration == pytest.approx(2.99, abs=0.1)
    assert clips.word_errors(clips.SAID[clips.COPIED], heard.text) <= 1


@requirement("A12", SPEECH, "audio without speech gives an empty text and no segments")
def test_no_speech(listener: openai.OpenAI) -> None:
    answer = transcribe(listener, ("quiet.wav", clips.wav(clips.silence(3))), response_format="verbose_json")
    assert (answer.text, answer.segments, answer.duration) == ("", [], 3.0)


@requirement("A13", SPEECH, "bytes that are no audio, or an empty file, are refused")
@pytest.mark.parametrize("data", [b"this is a text", b"RIFF\x00\x00", b"\x00" * 5000, b""])
def test_no_audio(listener: openai.OpenAI, data: bytes) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        transcribe(listener, ("speech.wav", data))
    assert caught.value.param == "file"


@requirement("A14", SPEECH, "a model that does not transcribe is refused; one that is not here is a 404")
def test_other_models(listener: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not transcribe"):
        transcribe(listener, model="bge-small-en-v1.5")
    with pytest.raises(openai.NotFoundError) as caught:
        transcribe(listener, model="whisper-1")
    assert caught.value.code == "model_not_found"


@requirement("A15", SPEECH, "probabilities of tokens and speakers told apart are refused by name")
@pytest.mark.parametrize(
    "wish", [{"include": ["logprobs"]}, {"known_speaker_names": ["a"]}, {"response_format": "diarized_json"}]
)
def test_what_is_not_honoured(listener: openai.OpenAI, wish: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        transcribe(listener, **wish)
    assert caught.value.param == next(iter(wish))


@requirement("A16", SPEECH, "an unknown field is refused with the nearest known name; a missing file is named")
def test_fields(listener: openai.OpenAI, speech: Gateway) -> None:
    with pytest.raises(openai.BadRequestError, match="unknown parameter: languag"):
        transcribe(listener, extra_body={"languag": "en"})
    import httpx2

    answer = httpx2.post(f"{speech.url}/v1/audio/transcriptions", files={"model": (None, MODEL)}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


@requirement("A17", SPEECH, "a translation is refused, and says what to do instead")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_translations(listener: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="none translates"):
        listener.audio.translations.create(file=clips.path(CLIP), model=MODEL)


@requirement("A18", SPEECH, "a client that leaves a stream ends the work, and its record says cancelled")
def test_leaving(speech: Gateway) -> None:
    samples = b"".join(clips.frames(name) + clips.silence(1) for name in clips.SAID) * 2
    with speech.client() as client:
        stream = transcribe(client, ("long.wav", clips.wav(samples)), stream=True)
        next(iter(stream))
        receipt = stream.response.headers["catena-receipt"]
        stream.close()
    until_s, closed = time.monotonic() + CLOSING_S, None
    while closed is None and time.monotonic() < until_s:
        closed = speech.record(receipt)
    assert closed is not None and closed["outcome"] == "cancelled"
    assert speech.get("/catena/v1/status")["scheduler"]["queue"] == 0
