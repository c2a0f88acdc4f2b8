"""`catena transcribe` with a real model, through a gateway of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import catena, copied, pulled
from tests.speech import clips

from catena.core.errors import EXIT_CODE

MODEL = "moonshine-tiny"
CLIP = "austen-0930"


@pytest.fixture(scope="module")
def home(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with one model that transcribes."""
    pulled(models_home, MODEL)
    return copied(models_home, tmp_path_factory.mktemp("transcribe") / "home")


@pytest.mark.model
def test_text_goes_to_standard_output_and_the_rest_to_standard_error(home: Path) -> None:
    done = catena(home, "transcribe", str(clips.path(CLIP)), "--model", MODEL)
    assert done.returncode == 0, done.stderr
    assert clips.word_errors(clips.SAID[CLIP], done.stdout) <= 1
    assert done.stdout.count("\n") == 1
    assert f"listening to {CLIP}.wav" in done.stderr and "receipt rcpt_" in done.stderr


@pytest.mark.model
def test_subtitles_and_json_hold_the_same_words(home: Path) -> None:
    told = json.loads(catena(home, "transcribe", str(clips.path(CLIP)), "--model", MODEL, "--json").stdout)
    assert told["model"] == MODEL and told["receipt"].startswith("rcpt_")
    (segment,) = told["segments"]
    vtt = catena(home, "transcribe", str(clips.path(CLIP)), "--model", MODEL, "--format", "vtt").stdout
    assert vtt.startswith("WEBVTT\n\n00:00:00.") and segment["text"] in vtt


@pytest.mark.model
def test_a_file_that_is_no_audio_is_told_with_what_is_known(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no sound in here")
    done = catena(home, "transcribe", str(file))
    assert done.returncode == EXIT_CODE["invalid_input"]
    assert done.stdout == ""
    assert "no audio file" in done.stderr and "WAV, FLAC, MP3" in done.stderr


def test_without_a_model_the_way_to_one_is_told(tmp_path: Path) -> None:
    done = catena(tmp_path / "home", "transcribe", str(clips.path(CLIP)))
    assert done.returncode == EXIT_CODE["not_found"]
    assert "catena pull moonshine-base" in done.stderr


def test_a_file_that_is_too_large_or_empty_is_refused_unsent(tmp_path: Path) -> None:
    large, empty = tmp_path / "large.wav", tmp_path / "empty.wav"
    with large.open("wb") as file:
        file.truncate((25 << 20) + 1)
    empty.touch()
    for path, word in ((large, "more than"), (empty, "is empty")):
        done = catena(tmp_path / "home", "transcribe", str(path), "--model", MODEL)
        assert done.returncode == EXIT_CODE["invalid_input"] and word in done.stderr
