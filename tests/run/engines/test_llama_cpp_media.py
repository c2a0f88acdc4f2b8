"""Pictures and sounds for a language model with a projector of random numbers, so that answers are noise."""

from __future__ import annotations

import io
import math
import struct
import wave
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import psutil
import pytest
from tests import projectors
from tests.conformance.asking import chat, events_of, raised_by, text_of, usage_of
from tests.conformance.conftest import Loaded, stored
from tests.run.engines.conftest import CHAT

from catena.core.errors import CatenaError, ContextError, InputError, TooLargeError, UnsupportedError
from catena.core.manifest import FileEntry, StoredModel
from catena.core.messages import Audio, ChatRequest, Image, Message, Part, Text, TokeniseRequest
from catena.core.protocols import Placement
from catena.run.engines import llama_cpp
from catena.run.engines.llama_cpp import media

pytestmark = pytest.mark.anyio
SMOLLM2_WIDTH = 576


def png(*colour: int, side: int = 28) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(colour) * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(pitch_hz: float) -> bytes:
    """A quarter of a second of one tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        samples = (int(8000 * math.sin(2 * math.pi * pitch_hz * index / 16_000)) for index in range(4_000))
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()


def show(*parts: Part, **sampling: object) -> ChatRequest:
    request = chat("", **sampling)
    return msgspec.structs.replace(request, messages=(Message("user", (Text("Describe: "), *parts)),))


def was_probed(loaded: Loaded) -> bool:
    return (Path(loaded.placement.folder) / "probed").exists()


def with_projector(path: Path) -> StoredModel:
    model = stored(CHAT)
    entry = FileEntry("projector", "mmproj.gguf", path.stat().st_size, "sha256:" + "0" * 64)
    manifest = msgspec.structs.replace(model.manifest, files=(*model.manifest.files, entry))
    return StoredModel(manifest, model.digest, {**model.paths, "mmproj.gguf": path})


@pytest.fixture(scope="module")
async def seeing(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Loaded]:
    folder = tmp_path_factory.mktemp("run")
    model = with_projector(projectors.write(folder / "any.gguf", SMOLLM2_WIDTH))
    engine, place = llama_cpp.Engine(), Placement(threads=1, slots=2, context_tokens=512, folder=str(folder))
    with pytest.MonkeyPatch.context() as patch:
        programs = folder / "programs"
        programs.mkdir()
        probe = programs / "ffprobe"
        probe.write_text(f"#!/bin/sh\n: > {folder}/probed\n")
        probe.chmod(0o755)
        patch.setenv("PATH", str(programs), prepend=":")
        session = await engine.load(model, place)
    yield Loaded(engine, model, place, session)
    await session.close()


async def test_an_answer_depends_on_the_bytes_of_the_picture(seeing: Loaded) -> None:
    red, blue, again = [
        text_of(await events_of(seeing, show(Image(png(*colour), "image/png"), max_tokens=8)))
        for colour in ((255, 0, 0), (0, 0, 255), (255, 0, 0))
    ]
    assert red == again
    assert red != blue


async def test_a_picture_is_counted_before_and_after_as_the_same_tokens(seeing: Loaded) -> None:
    request = show(Image(png(9, 9, 9), "image/png"), max_tokens=2)
    counted = await seeing.session.count(request)
    assert counted == usage_of(await events_of(seeing, request)).prompt_tokens
    with_two = show(Image(png(9, 9, 9), "image/png"), Image(png(9, 9, 8), "image/png"), max_tokens=2)
    assert await seeing.session.count(with_two) >= counted + (projectors.SIDE // projectors.PATCH) ** 2


async def test_the_place_of_a_picture_among_the_texts_matters(seeing: Loaded) -> None:
    picture = Image(png(255, 0, 0), "image/png")
    before, after = [
        text_of(await events_of(seeing, msgspec.structs.replace(chat("", max_tokens=8), messages=(message,))))
        for message in (
            Message("user", (picture, Text("What is the capital of France?"))),
            Message("user", (Text("What is the capital of France?"), picture)),
        )
    ]
    assert before != after


async def test_what_is_no_picture_is_an_error_that_names_it_and_no_program_is_started(seeing: Loaded) -> None:
    broken = png(1, 2, 3)[:-30]
    error = await raised_by(seeing, show(Image(broken, "image/png")))
    assert isinstance(error, InputError) and "picture" in error.message
    assert not was_probed(seeing)
    assert text_of(await events_of(seeing, chat("Hello", max_tokens=2)))


async def test_a_model_without_a_projector_for_it_refuses_a_part(seeing: Loaded, llama: Loaded) -> None:
    sound = await raised_by(seeing, show(Audio(wav(440), "audio/wav")))
    assert isinstance(sound, UnsupportedError) and "text and image only" in sound.message
    picture = await raised_by(llama, show(Image(png(1, 2, 3), "image/png")))
    assert isinstance(picture, UnsupportedError) and "text only" in picture.message


async def test_more_pictures_than_the_context_holds_are_refused_with_both_numbers(seeing: Loaded) -> None:
    error = await raised_by(seeing, show(Image(png(1, 2, 3), "image/png"), max_tokens=500))
    assert isinstance(error, ContextError) and error.needed > error.available == 512


async def test_pictures_have_no_tokens_to_show(seeing: Loaded) -> None:
    with pytest.raises(UnsupportedError):
        await seeing.session.tokenise(TokeniseRequest("m", show(Image(png(1, 2, 3), "image/png"))))


async def test_the_largest_picture_takes_no_more_memory_than_is_stated(seeing: Loaded) -> None:
    side = math.isqrt(media.MAX_PIXELS)
    await events_of(seeing, show(Image(png(7, 7, 7, side=side), "image/png"), max_tokens=1))
    held = psutil.Process(seeing.session.process.pid).memory_info().rss
    assert held <= seeing.session.facts.memory_bytes


async def test_a_projector_for_another_width_is_refused_by_the_load(tmp_path: Path) -> None:
    model = with_projector(projectors.write(tmp_path / "wide.gguf", SMOLLM2_WIDTH + 64))
    with pytest.raises(CatenaError, match="cannot load"):
        await llama_cpp.Engine().load(model, Placement(threads=1, slots=1, context_tokens=512, folder=str(tmp_path)))


@pytest.mark.long
async def test_an_answer_depends_on_the_bytes_of_a_sound(tmp_path: Path) -> None:
    model = with_projector(projectors.write(tmp_path / "ear.gguf", SMOLLM2_WIDTH, audio=True))
    engine, place = llama_cpp.Engine(), Placement(threads=1, slots=1, context_tokens=1024, folder=str(tmp_path))
    loaded = Loaded(engine, model, place, await engine.load(model, place))
    try:
        low, high = [
            await events_of(loaded, show(Audio(wav(pitch), "audio/wav"), max_tokens=1, ignore_eos=True, logprobs=5))
            for pitch in (200, 3000)
        ]
    finally:
        await loaded.session.close()
    assert usage_of(low).prompt_tokens > 700, "half a minute of positions, however short the sound"
    assert low[1:-2] != high[1:-2]


# --- what is looked at before anything is handed on ---

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xff\xc2\x00\x11\x08" + struct.pack(">HH", 30, 40)


@pytest.mark.parametrize(
    "data",
    [
        png(1, 2, 3),
        JPEG,
        b"GIF89a" + struct.pack("<HH", 3, 4),
        b"BM" + bytes(16) + struct.pack("<ii", 3, -4),
    ],
)
def test_pictures_are_known_by_their_first_bytes(data: bytes) -> None:
    assert media.check(show(Image(data, "text/html")).messages, frozenset(("image",)))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", UnsupportedError),
        (b"RIFF\0\0\0\0WEBPVP8 ", UnsupportedError),
        (b"\0\0\0\x18ftypmp42", UnsupportedError),
        (b"#EXTM3U\nfile:///etc/passwd", UnsupportedError),
        (png(1, 2, 3)[:18], InputError),
        (JPEG[:-3], InputError),
        (b"\xff\xd8\xff\xe0\x00\x02\x00\x00", InputError),
        (b"GIF89a" + bytes(4), TooLargeError),
        (b"BM" + bytes(16) + struct.pack("<ii", -(1 << 31), 1), TooLargeError),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 16_385, 1), TooLargeError),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 5_000, 5_000), TooLargeError),
    ],
)
def test_what_the_library_should_not_see_is_refused(data: bytes, error: type[CatenaError]) -> None:
    with pytest.raises(error) as caught:
        media.check(show(Image(data, "image/png")).messages, frozenset(("image",)))
    assert caught.type is error


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"fLaC" + bytes(40), UnsupportedError),
        (b"OggS" + bytes(40), UnsupportedError),
        (b"RIFF\0\0\0\0WAVE" + bytes(media.MAX_SOUND_BYTES), TooLargeError),
        (b"\xff\xfb" + bytes(media.MAX_MP3_BYTES), TooLargeError),
    ],
)
def test_sounds_are_wav_or_mp3_of_bounded_size(data: bytes, error: type[CatenaError]) -> None:
    with pytest.raises(error):
        media.check(show(Audio(data, "audio/wav")).messages, frozenset(("audio",)))


def test_pictures_are_limited_in_number() -> None:
    picture = Image(png(1, 2, 3), "image/png")
    assert media.check(show(*[picture] * media.MAX_PICTURES).messages, frozenset(("image",)))
    with pytest.raises(TooLargeError):
        media.check(show(*[picture] * (media.MAX_PICTURES + 1)).messages, frozenset(("image",)))
