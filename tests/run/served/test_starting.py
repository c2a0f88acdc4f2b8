"""How servers are started, what they are told and what they are not, and what becomes of starts that fail."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from tests.conformance.asking import ask, chat, text_of
from tests.run.served import places, standin

from catena.core import registry
from catena.core.errors import BusyError, EngineError, ResourceError, UnsupportedError
from catena.core.messages import EmbedRequest
from catena.core.protocols import Placement
from catena.core.settings import ServedSettings
from catena.run.served import backoff, starting

pytestmark = pytest.mark.anyio


async def said(session: Any) -> str:
    return text_of([event async for event in session.generate(ask("one two three", max_tokens=3))])


async def test_a_server_is_told_exactly_what_it_is_to_serve(place: places.Place, load: Any, tmp_path: Path) -> None:
    session = await load(context_tokens=128, slots=7)
    assert await said(session) == "one two three"
    (start,) = place.starts()
    model = str(tmp_path / "model-generate")
    if place.name == "vllm":
        socket = session.running.address.socket
        expected = [
            *("-m", "vllm.entrypoints.cli.main", "serve", model, "--served-model-name", "catena", "--uds", socket),
            *("--load-format", "safetensors", "--runner", "generate", "--max-num-seqs", "7", "--max-model-len", "128"),
            *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
        ]
    else:
        file, port = str(session.running.private / "settings.yaml"), str(session.running.address.port)
        expected = [
            *("-m", "sglang.launch_server", "--config", file, "--model-path", model, "--served-model-name", "catena"),
            *("--host", "127.0.0.1", "--port", port, "--load-format", "safetensors", "--device", "cpu"),
            *("--max-running-requests", "7", "--context-length", "128"),
            *("--enable-cache-report", "--log-level-http", "warning"),
        ]
    assert start["argv"] == [*expected, *places.TOOLS[place.name]]
    assert start["folder"] == ["config.json", "model.safetensors", "tokenizer.json"]
    facts = session.facts
    assert (facts.engine, facts.slots, facts.context_tokens) == (
        f"{place.name} {places.VERSIONS[place.name]}", 7, 128
    )  # fmt: skip


async def test_a_model_that_embeds_is_served_as_one(place: places.Place, load: Any) -> None:
    session = await load("embed")
    found = await session.embed(EmbedRequest("m", ("a b", "c")))
    assert found.width == standin.WIDTH and found.usage.prompt_tokens == 3
    wanted = {"vllm": ["--runner", "pooling"], "sglang": ["--is-embedding"]}[place.name]
    (start,) = place.starts()
    assert " ".join(wanted) in " ".join(start["argv"])


async def test_a_server_found_on_the_path_is_started_as_a_program(
    place: places.Place, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{place.folder / 'bin'}:{os.environ['PATH']}")
    session = await load(python="")
    assert await said(session) == "one two three"
    (start,) = place.starts()
    assert start["argv"][0] == "serve"


async def test_the_key_stands_on_no_command_line_and_its_holders_are_private(load: Any, place: places.Place) -> None:
    session = await load()
    running = session.running
    for pid in (running.process.pid, *place.starts()[0]["family"]):
        assert running.key.encode() not in places.command_line(pid)
    assert stat.S_IMODE(running.private.stat().st_mode) == 0o700
    for path in running.private.iterdir():
        assert path.is_socket() or stat.S_IMODE(path.stat().st_mode) == 0o600
    await session.close()
    assert not running.private.exists()


async def test_a_server_sees_no_secrets_and_no_way_out(
    load: Any, place: places.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "CUDA_TOKEN", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "a-secret")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    monkeypatch.setenv("CATENA__RUN__SLOTS", "2")
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    await load()
    environ = place.starts()[0]["environ"]
    assert "a-secret" not in environ.values()
    assert not {"HF_TOKEN", "HTTPS_PROXY", "PYTHONPATH", "VLLM_SERVER_DEV_MODE", "CATENA__RUN__SLOTS"} & set(environ)
    assert environ["NCCL_DEBUG"] == "WARN", "what the hardware needs is passed on"
    assert environ["HF_HUB_OFFLINE"] == environ["TRANSFORMERS_OFFLINE"] == environ["DO_NOT_TRACK"] == "1"
    assert place.name == "sglang" or environ["VLLM_NO_USAGE_STATS"] == "1"
    assert environ["PATH"].startswith(str(place.folder / "bin"))


async def test_what_a_server_prints_is_kept_for_its_owner_without_secrets(
    load: Any, place: places.Place, folder: Path
) -> None:
    place.wish(print="key {key} and hf_abcdefghijkl and Authorization: Bearer xyz")
    session = await load()
    await session.close()
    (name,) = places.names(folder)
    path = folder / name
    text = path.read_text()
    assert text.splitlines()[0] == "key *** and *** and Authorization: Bearer ***"
    assert session.running.key not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_slow_start_is_waited_for(load: Any, place: places.Place) -> None:
    place.wish(start_s=0.3, unhealthy_s=0.5)
    with anyio.fail_after(20):
        assert await said(await load()) == "one two three"


async def test_a_start_that_is_not_waited_for_any_more_leaves_nothing(
    load: Any, place: places.Place, folder: Path
) -> None:
    place.wish(start_s=60, grandchildren=1)
    with anyio.move_on_after(0.8) as scope:
        await load()
    assert scope.cancelled_caught
    await place.gone()
    assert [name.rpartition(".")[2] for name in places.names(folder)] == ["log"]


@pytest.mark.parametrize(
    ("wishes", "kind", "words"),
    [
        ({"exit": 7}, EngineError, "status 7"),
        (
            {"exit": 1, "print": "torch.OutOfMemoryError: CUDA out of memory. prompt"},
            ResourceError,
            "too little memory",
        ),
        ({"kill": int(signal.SIGKILL)}, ResourceError, "was killed"),
        ({"kill": int(signal.SIGSEGV), "print": "Loading safetensors checkpoint shards: 1/2"}, EngineError, "weights"),
    ],
    ids=["exit", "device memory", "memory", "fault"],
)
async def test_a_server_that_ends_at_its_start_is_told_of_without_its_own_words(
    load: Any, place: places.Place, folder: Path, wishes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    place.wish(grandchildren=1, **wishes)
    with anyio.fail_after(20), pytest.raises(kind) as caught:
        await load()
    assert words in str(caught.value) and "prompt" not in str(caught.value)
    await place.gone()
    assert [name.rpartition(".")[2] for name in places.names(folder)] == ["log"]


async def test_a_server_that_fails_in_a_row_rests_and_is_then_tried_again(
    load: Any, place: places.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(backoff, "monotonic_s", lambda: now_s)
    place.wish(exit=1)
    for _ in range(2):  # one failure is forgiven: after it memory may have been made
        with pytest.raises(EngineError):
            await load()
    with pytest.raises(BusyError) as caught:
        await load()
    assert caught.value.retry_after_s == 2.0
    assert len(place.starts()) == 2
    now_s += 2.1
    with pytest.raises(EngineError):
        await load()
    with pytest.raises(BusyError) as caught:
        await load()
    assert caught.value.retry_after_s == 4.0
    now_s += 4.1
    place.wish()
    session = await load()
    await session.close()
    assert await said(await load()) == "one two three", "after a good life nothing is held against it"


async def test_a_stranger_on_the_port_is_not_taken_for_the_server_and_never_sees_the_key(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places.install(tmp_path / "env", "sglang", start_s=0.6)
    heads: list[bytes] = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        monkeypatch.setattr(starting, "free_port", lambda: port)
        engine = registry.find("engines", "sglang")(place.settings())
        with anyio.fail_after(20), pytest.raises(EngineError):
            await engine.load(places.stored(tmp_path / "model"), Placement(folder=str(folder)))
    assert heads and not any(b"authorization" in head.lower() for head in heads)


async def test_an_unknown_device_or_an_adapter_is_refused_before_anything_is_started(
    load: Any, place: places.Place, tmp_path: Path
) -> None:
    with pytest.raises(ResourceError):
        await load(device="abacus")
    engine = registry.find("engines", place.name)(place.settings())
    model = places.stored(tmp_path / "model")
    with pytest.raises(UnsupportedError):
        await engine.load(model, Placement(adapters=(model,)))
    assert place.starts() == []


async def test_the_device_of_the_settings_is_told(place: places.Place, folder: Path, tmp_path: Path) -> None:
    engine = registry.find("engines", place.name)(place.settings(device="rocm"))
    session = await engine.load(places.stored(tmp_path / "model"), Placement(folder=str(folder)))
    await session.close()
    (start,) = place.starts()
    assert session.facts.device == "rocm"
    if place.name == "sglang":
        assert start["argv"][start["argv"].index("--device") + 1] == "cuda", "torch's name for both"
    else:
        assert "CUDA_VISIBLE_DEVICES" not in start["environ"], "GPUs are hidden only from what is to run on the CPU"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--host", "0.0.0.0"),
        ("--port=1",),
        ("--po=1",),
        ("--api_key", "x"),
        ("--model", "other"),
        ("--trust-remote-code",),
        ("--trust_remote_code=true",),
        ("--config", "file"),
        ("--load-format", "pt"),
        ("--served-model-name", "x"),
        ("-h",),
        ("other-model",),
        ("--ssl-keyfile", "x"),
    ],
    ids=" ".join,
)
def test_arguments_that_would_break_the_contract_are_refused(
    place: places.Place, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    engine = registry.find("engines", place.name)(place.settings(arguments=arguments))
    reason = engine.accepts(places.stored(tmp_path / "model"))
    assert reason and f"run.{place.name}.arguments" in reason


def test_other_arguments_are_taken(place: places.Place, tmp_path: Path) -> None:
    name = "--gpu-memory-utilization" if place.name == "vllm" else "--mem-fraction-static"
    engine = registry.find("engines", place.name)(place.settings(arguments=(name, "0.8", "--seed", "-1")))
    assert engine.accepts(places.stored(tmp_path / "model")) is None


@pytest.mark.parametrize("python", ["", "/nowhere/python", "python", "/tmp"])
def test_a_server_that_is_not_there_is_refused_with_the_setting_and_the_guide(
    place: places.Place, tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    engine = registry.find("engines", place.name)(ServedSettings(python=python))
    reason = engine.accepts(places.stored(tmp_path / "model"))
    assert reason and f"run.{place.name}.python" in reason and "docs/guides/gpu-engines.md" in reason


def test_models_that_servers_cannot_load_are_refused(place: places.Place, tmp_path: Path) -> None:
    engine = registry.find("engines", place.name)(place.settings())
    model = places.stored(tmp_path / "model")
    assert engine.accepts(model) is None
    manifest = model.manifest
    for changes in ({"format": "gguf"}, {"task": "predict"}, {"files": manifest.files[:2]}):
        other = msgspec.structs.replace(manifest, **changes)
        assert engine.accepts(msgspec.structs.replace(model, manifest=other)), changes


async def test_chats_are_answered_too(load: Any) -> None:
    events = [event async for event in (await load()).generate(chat("Say hello."))]
    assert text_of(events) == "Say hello."
