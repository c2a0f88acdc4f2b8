"""Rerank, classify and transcriptions at the door: hostile bodies, streams that break, and what is said of cuts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script

from catena.core.errors import EngineError
from catena.core.messages import (
    Classified,
    ClassifyRequest,
    Decision,
    Delta,
    Finished,
    Listened,
    Reranked,
    RerankRequest,
    Segment,
    Timings,
    TranscribeRequest,
    Usage,
)
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.door import Form
from catena.reach.gateway.application import create
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.rerank import is_foreign
from catena.reach.gateway.protocols.openai.transcript_form import subtitles
from catena.reach.router import ClassifiedAnswer, RerankedAnswer, Transcript
from catena.reach.ticket import Caller

SPEECH = "/v1/audio/transcriptions"
GOOD: dict[str, dict[str, Any]] = {
    "/v1/rerank": {"model": "tiny", "query": "why", "documents": ["a", {"text": "b"}]},
    "/v1/classify": {"model": "tiny", "input": ["a", "b"]},
}
FORM = {"model": "tiny", "response_format": "verbose_json", "timestamp_granularities[]": "segment"}
SAID = (
    Delta(text="Hello"),
    Segment(0.5, 1.25, "Hello", (1,), -0.1, 0.9),
    Delta(text=" there."),
    Segment(3661.0, 3662.5, "there.", (2, 3), -0.2, 0.8),
    Listened(3700.0, "en"),
    Finished(0, "stop"),
    Usage(50, 3),
    Timings(),
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
ANYTHING = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=9), one, max_size=3), max_leaves=6
)
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Judge(Script):
    """A router that gives every document the score of its length, and says what it is told to."""

    cut: tuple[int, ...] = ()
    heard: TranscribeRequest | None = None

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankedAnswer:
        receipt = self._open(request, caller)  # type: ignore[arg-type]
        scores = tuple(float(len(document)) for document in request.documents)
        return RerankedAnswer(receipt, Decision("local", "test"), MODEL, Reranked(scores, Usage(9, 0), cut=self.cut))

    async def classify(self, request: ClassifyRequest, caller: Caller) -> ClassifiedAnswer:
        receipt = self._open(request, caller)  # type: ignore[arg-type]
        found = Classified(("no", "yes"), Usage(9, 0), probabilities=((0.25, 0.75),) * len(request.inputs))
        return ClassifiedAnswer(receipt, Decision("local", "test"), MODEL, found)

    @asynccontextmanager
    async def transcribe(self, request: TranscribeRequest, caller: Caller) -> AsyncGenerator[Transcript]:
        receipt = self._open(request, caller)  # type: ignore[arg-type]
        self.heard = request
        yield Transcript(receipt, Decision("local", "test"), MODEL, self._play(receipt))


def ask(path: str, body: Any, script: Judge | None = None, **headers: str) -> Any:
    """One request to a gateway of its own."""
    script = script or Judge()
    rows = [Row("tiny", MODEL.digest, (), MODEL.manifest)]
    door = Door(create(script, ReachSettings(), Access(Memory()), models=lambda: rows), script, Access(Memory()), Log())

    async def once() -> Any:
        return await door.ask("POST", path, body, headers=headers)

    return anyio.run(once)


def transcribe(events: Iterable[Any] = SAID, form: dict[str, str] | None = None, script: Judge | None = None) -> Any:
    script = script or Judge()
    script.events = events
    body, kind = Form(FORM if form is None else form, "a.wav", b"sound").encoded()
    return ask(SPEECH, body, script, **{"content-type": kind})


def check(response: Any) -> None:
    """No failure of ours, and errors have their body."""
    assert 200 <= response.status < 500, response.body
    if response.status >= 400:
        assert response.error["message"] and response.error["type"]


@QUICK
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_values_of_known_parameters_are_answered_or_refused(path: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(fields.TABLES[f"POST {path}"]))
    change = data.draw(st.dictionaries(names, ANYTHING, min_size=1, max_size=3))
    check(ask(path, {**GOOD[path], **change}))


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(fields.TRANSCRIPTION)) | st.text(max_size=9), st.text(max_size=9)))
def test_any_fields_of_a_form_are_answered_or_refused(change: dict[str, str]) -> None:
    clean = {name.replace('"', "").replace("\r", "").replace("\n", ""): value for name, value in change.items()}
    check(transcribe(form={**FORM, **clean}))


@QUICK
@given(st.integers(0, 600), st.binary(max_size=40))
def test_forms_that_are_cut_or_bent_are_refused_in_our_form(place: int, change: bytes) -> None:
    body, kind = Form(FORM, "a.wav", b"sound").encoded()
    place = min(place, len(body))
    check(ask(SPEECH, body[:place] + change + body[place + len(change) :], **{"content-type": kind}))
    check(ask(SPEECH, body[:place], **{"content-type": kind}))


@pytest.mark.parametrize("path", sorted(GOOD))
def test_the_good_request_that_the_others_start_from_is_good(path: str) -> None:
    assert ask(path, GOOD[path]).status == 200


def test_a_good_form_arrives_as_it_was_sent() -> None:
    script = Judge()
    answer = transcribe(form={"model": "tiny", "language": "en", "stream": "false"}, script=script)
    assert answer.status == 200
    assert script.heard is not None and (script.heard.audio, script.heard.language) == (b"sound", "en")
    assert answer.json["text"] == "Hello there."


def test_a_stream_of_speech_that_breaks_ends_with_an_error_and_without_its_end() -> None:
    events = (SAID[0], SAID[1], EngineError("it broke"))
    answer = transcribe(events, {"model": "tiny", "stream": "true"})
    assert answer.status == 200
    text = answer.body.decode()
    assert "transcript.text.delta" in text and '"code":"engine_failed"' in text
    assert "transcript.text.done" not in text and "[DONE]" not in text


def test_speech_that_cannot_be_heard_is_an_error_before_a_stream_begins() -> None:
    assert transcribe((EngineError("it broke"),), {"model": "tiny", "stream": "true"}).status == 500


def test_segments_that_went_in_circles_are_named_at_once_and_in_a_stream() -> None:
    events = (Delta(text="la la"), Segment(0, 1, "la la", (1,), 0, 1, is_cut=True), *SAID[4:])
    assert "1 of the segments" in transcribe(events).headers["catena-warning"]
    stream = transcribe(events, {"model": "tiny", "stream": "true"})
    done = next(line for line in stream.body.decode().splitlines() if "text.done" in line)
    assert "cut short" in json.loads(done.removeprefix("data: "))["catena_warning"]


def test_documents_that_were_cut_are_named_and_long_lists_of_them_shortened() -> None:
    script = Judge()
    script.cut = tuple(range(12))
    warning = ask("/v1/rerank", GOOD["/v1/rerank"], script).headers["catena-warning"]
    assert warning.startswith("12 of the documents") and warning.endswith("8, 9, ...")


def test_documents_with_equal_scores_keep_their_order() -> None:
    found = ask("/v1/rerank", {**GOOD["/v1/rerank"], "documents": ["aa", "b", "cc", "d"]}).json["results"]
    assert [each["index"] for each in found] == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("texts", "is_so"),
    [
        (("why", "because"), False),
        (("为什么", "because of the rain " * 20), True),
        (("why", "因为下雨"), True),
        (("Où est l'été?", "Größe, naïve, Łódź"), False),
        (("12 + 3?", "!!"), False),
    ],
)
def test_text_of_another_script_is_told_from_latin(texts: tuple[str, ...], is_so: bool) -> None:
    assert is_foreign(*texts) is is_so


def test_subtitles_count_hours_and_keep_arrows_out_of_the_text() -> None:
    spans = [(0.0, 1.0004, "a --> b"), (3661.5, 36000.25, "c")]
    assert subtitles(spans, is_vtt=False) == (
        "1\n00:00:00,000 --> 00:00:01,000\na -> b\n\n2\n01:01:01,500 --> 10:00:00,250\nc\n\n"
    )
    assert subtitles([], is_vtt=True) == "WEBVTT\n\n"
