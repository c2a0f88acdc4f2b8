"""Loading a GGUF model: memory, threads, the library's HTTP side, and files that the library cannot bear."""

from __future__ import annotations

import shutil
import struct
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conformance.asking import ask, chat, events_of, text_of, usage_of
from tests.conformance.conftest import Loaded
from tests.run.engines.conftest import Load, by_hand

from catena.core.errors import CatenaError, EngineError, FormatError, ResourceError, UnsupportedError
from catena.core.manifest import FileEntry, StoredModel
from catena.core.messages import CompletionRequest, Sampling
from catena.core.protocols import Placement
from catena.run import devices
from catena.run.engines import llama_cpp
from catena.run.engines.llama_cpp import header

pytestmark = pytest.mark.anyio


# --- the library's HTTP side ---


def inodes(pid: int) -> set[str]:
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def test_nobody_can_reach_the_http_side_of_the_library(llama: Loaded) -> None:
    theirs = inodes(llama.session.process.pid)
    for table in ("tcp", "tcp6"):
        rows = [line.split() for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]]
        assert not [row for row in rows if row[3] == "0A" and row[9] in theirs], "a TCP listener"
    rows = [line.split() for line in Path("/proc/self/net/unix").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "00010000" and row[6] in theirs]
    assert listening, "the library no longer listens: this test proves nothing"
    for row in listening:
        assert len(row) > 7 and not row[7].startswith("@"), "an abstract socket can be reached by everybody"
        assert not Path(row[7]).exists() and not Path(row[7]).parent.exists()
    assert not list(Path(llama.placement.folder).glob("**/*.sock"))


# --- memory and threads ---


async def test_memory_decides_how_many_slots_there_are(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    full = (await load(slots=4, context_tokens=1024)).session.facts
    assert full.slots == 4
    known = header.read(Path((await load()).model.path("weights")))
    slot_bytes = 1024 * known.cache_token_bytes
    assert slot_bytes == 1024 * 30 * 3 * (64 + 64) * 2
    free = full.memory_bytes - 2 * slot_bytes
    monkeypatch.setattr(devices, "memory", lambda: devices.Memory(free, free))
    less = (await load(slots=4, context_tokens=1024)).session.facts
    assert (less.slots, less.memory_bytes) == (2, free)
    none = full.memory_bytes - 4 * slot_bytes
    monkeypatch.setattr(devices, "memory", lambda: devices.Memory(none, none))
    with pytest.raises(ResourceError, match=r"needs .* MB .* MB is free"):
        await load(slots=4, context_tokens=1024)


async def test_a_session_takes_no_more_memory_than_it_states(load: Load) -> None:
    loaded = await load(slots=3, context_tokens=1024)
    for index in range(4):
        await events_of(loaded, ask(f"{index} {'word ' * 100}", max_tokens=2))
    held = psutil.Process(loaded.session.process.pid).memory_info().rss
    assert sum(file.size_bytes for file in loaded.model.manifest.files) < held <= loaded.session.facts.memory_bytes


async def test_one_thread_computes_when_one_is_given(llama: Loaded) -> None:
    process = psutil.Process(llama.session.process.pid)
    await events_of(llama, ask(max_tokens=2))
    began, began_cpu = time.perf_counter(), sum(process.cpu_times()[:2])
    await events_of(llama, ask(max_tokens=40, ignore_eos=True))
    assert (sum(process.cpu_times()[:2]) - began_cpu) / (time.perf_counter() - began) < 1.3


# --- templates ---


async def test_a_template_file_replaces_that_of_the_weights(
    load: Load, chat_model: StoredModel, tmp_path: Path
) -> None:
    template = tmp_path / "chat_template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %} one two three four five six")
    manifest = chat_model.manifest
    entry = FileEntry("template", template.name, template.stat().st_size, "sha256:" + "0" * 64)
    changed = StoredModel(
        type(manifest)(**{**_fields(manifest), "files": (*manifest.files, entry)}),
        "sha256:" + "e" * 64,
        {**chat_model.paths, template.name: template},
    )
    loaded = await load(changed)
    raw = CompletionRequest("m", "Hi one two three four five six", Sampling(max_tokens=1, temperature=0.0))
    expected = usage_of(await events_of(loaded, raw))
    assert usage_of(await events_of(loaded, chat("Hi"))).prompt_tokens == expected.prompt_tokens


def _fields(struct_: Any) -> dict[str, Any]:
    return {name: getattr(struct_, name) for name in struct_.__struct_fields__}


# --- hostile files ---


def patched(source: Path, target: Path, key: str, value: bytes) -> Path:
    """A copy of a GGUF file with other bytes in the place of the value of `key`."""
    shutil.copy(source, target)
    data = target.read_bytes()
    offset = data.index(key.encode()) + len(key) + 4
    with target.open("r+b") as file:
        file.seek(offset)
        file.write(value)
    return target


HOSTILE = {
    "no layers": ("llama.block_count", struct.pack("<I", 0)),
    "fewer layers than tensors": ("llama.block_count", struct.pack("<I", 3)),
    "no context": ("llama.context_length", struct.pack("<I", 0)),
    "norm of nothing": ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", float("nan"))),
    "no heads": ("llama.attention.head_count", struct.pack("<I", 0)),
    "too many heads": ("llama.attention.head_count", struct.pack("<I", 7)),
    "unknown architecture": ("general.architecture", struct.pack("<Q", 5) + b"zzzzz"),
    "unknown tokenizer": ("tokenizer.ggml.model", struct.pack("<Q", 4) + b"zzzz"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_file_that_the_library_cannot_bear_is_an_error_and_not_the_end(
    load: Load, chat_model: StoredModel, tmp_path: Path, name: str
) -> None:
    path = patched(chat_model.path("weights"), tmp_path / f"{name}.gguf", *HOSTILE[name])
    header.read(path)  # the reader of headers has nothing against it
    with pytest.raises((EngineError, FormatError)):
        await load(by_hand(path, name, "generate", "gguf"))


@pytest.mark.parametrize("changes", [{"context_tokens": 300}, {"context_tokens": 1}], ids=str)
async def test_the_stated_context_can_be_used_to_the_last_token(load: Load, changes: dict[str, int]) -> None:
    loaded = await load(**changes)
    context = loaded.session.facts.context_tokens
    prompt = ask("one, two,", max_tokens=1)
    prompt_tokens = usage_of(await events_of(loaded, prompt)).prompt_tokens
    full = ask("one, two,", max_tokens=context - prompt_tokens, ignore_eos=True)
    assert usage_of(await events_of(loaded, full)).completion_tokens == context - prompt_tokens


async def test_a_base_model_without_a_template_refuses_a_chat(
    load: Load, chat_model: StoredModel, tmp_path: Path
) -> None:
    path = tmp_path / "base.gguf"
    data = chat_model.path("weights").read_bytes()
    path.write_bytes(data.replace(b"tokenizer.chat_template", b"tokenizer.chat_xemplate", 1))
    loaded = await load(by_hand(path, "base", "generate", "gguf"))
    assert text_of(await events_of(loaded, ask()))
    with pytest.raises(UnsupportedError):
        await events_of(loaded, chat("Hi"))


def test_only_gguf_that_generates_is_accepted(chat_model: StoredModel, encoder: StoredModel) -> None:
    engine = llama_cpp.Engine()
    assert engine.accepts(chat_model) is None
    assert "onnx" in (engine.accepts(encoder) or "")
    adapter = type(chat_model.manifest)(**{**_fields(chat_model.manifest), "task": "adapter"})
    assert "adapter" in (engine.accepts(StoredModel(adapter, "", {})) or "")


async def test_a_folder_with_a_long_path_still_works(chat_model: StoredModel, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    session = await llama_cpp.Engine().load(
        chat_model, Placement(threads=1, slots=1, context_tokens=256, folder=str(folder))
    )
    await session.close()
    assert not list(folder.iterdir())


async def test_two_models_live_side_by_side(load: Load) -> None:
    first, second = await load(), await load(slots=1)
    assert text_of(await events_of(first, ask())) == text_of(await events_of(second, ask()))
    await first.session.close()
    assert text_of(await events_of(second, ask()))
    with pytest.raises(CatenaError):
        await events_of(first, ask())
