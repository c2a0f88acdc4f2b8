"""The process that hosts the library: what it costs the gateway, whom it outlives, whom its death harms."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest
from tests.conformance.asking import BOUND_S, ask, chat, events_of, text_of, usage_of
from tests.run.engines.conftest import Load, by_hand
from tests.run.engines.test_llama_cpp_loading import HOSTILE, patched

from catena.core.errors import EngineError, ExpiredError
from catena.core.manifest import StoredModel
from catena.core.messages import Delta, Event
from catena.core.protocols import Placement
from catena.core.settings import RunSettings
from catena.run.engines import llama_cpp
from catena.run.engines.llama_cpp import process, worker
from catena.run.engines.llama_cpp.session import Session
from catena.run.scheduler import Scheduler

pytestmark = pytest.mark.anyio


def workers() -> set[int]:
    """Processes below this one that host the library, also the dead ones that nobody asked after."""
    found: set[int] = set()
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE or worker.__file__ in child.cmdline():
            found.add(child.pid)
    return found


def num_open() -> int:
    """Open files and sockets of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def has_library(pid: int) -> bool:
    """Whether a worker is past the first lines of its main program."""
    return worker.__file__ in psutil.Process(pid).cmdline() and "xllamacpp" in Path(f"/proc/{pid}/maps").read_text()


# --- the gateway while a model loads ---


async def test_the_event_loop_goes_on_while_a_model_loads(load: Load) -> None:
    longest_s = 0.0

    async def watch() -> None:
        nonlocal longest_s
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now_s = time.perf_counter()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        began_s = time.perf_counter()
        await load(slots=4, context_tokens=8192)
        took_s = time.perf_counter() - began_s
        tasks.cancel_scope.cancel()
    assert longest_s < max(0.05, took_s / 4)


async def test_a_load_that_is_cancelled_leaves_nothing_behind(load: Load, tmp_path: Path) -> None:
    loaded = await load()
    before = num_open(), workers(), sorted(tmp_path.iterdir())  # noqa: ASYNC240
    for delay_s in (0.0, 0.02, 0.1):
        with anyio.move_on_after(delay_s) as scope:
            await llama_cpp.Engine().load(loaded.model, loaded.placement)
            await anyio.sleep(BOUND_S)
        assert scope.cancelled_caught
        await asyncio.sleep(0)
        assert workers() == before[1] and sorted(tmp_path.iterdir()) == before[2]  # noqa: ASYNC240
    assert num_open() <= before[0]
    assert text_of(await events_of(loaded, chat("Hello")))


async def test_a_load_that_takes_too_long_is_ended_and_leaves_nothing_behind(
    chat_model: StoredModel, tmp_path: Path
) -> None:
    settings = RunSettings(load_timeout_s=0.5, slots=1, context_tokens=256)
    before = workers()

    async def hold() -> None:
        """Stop the worker in the middle of its load, as a disk would that does not answer."""
        while not (new := workers() - before):  # noqa: ASYNC110
            await anyio.sleep(0.001)
        os.kill(new.pop(), signal.SIGSTOP)

    with anyio.fail_after(BOUND_S):
        async with Scheduler({"llama_cpp": llama_cpp.Engine()}, settings, tmp_path) as scheduler:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold)
                with pytest.raises(ExpiredError):
                    async with scheduler.lease(chat_model, "a"):
                        pass
            while workers() != before:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert not any(names for _, *names in os.walk(tmp_path / "run") if any(names))


async def test_a_model_answers_on_the_loop_of_the_gateway_too(chat_model: StoredModel) -> None:
    async def answered() -> tuple[str, bool]:
        session = await llama_cpp.Engine().load(chat_model, Placement(slots=1, context_tokens=256))
        events = [event async for event in session.generate(ask())]
        os.kill(session.process.pid, signal.SIGKILL)
        with anyio.fail_after(BOUND_S):
            while not session.is_broken:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        await session.close()
        return text_of(events), psutil.pid_exists(session.process.pid)

    def run(use_uvloop: bool) -> tuple[str, bool]:
        return anyio.run(answered, backend_options={"use_uvloop": use_uvloop})

    text, is_left = await anyio.to_thread.run_sync(run, True)
    assert text == (await anyio.to_thread.run_sync(run, False))[0] != ""
    assert not is_left


# --- whom a death harms ---


async def test_a_worker_that_is_killed_ends_its_requests_with_errors_and_the_next_one_is_answered(
    chat_model: StoredModel, tmp_path: Path
) -> None:
    settings = RunSettings(slots=3, context_tokens=512, threads=1)
    outcomes: list[str] = []
    sessions: list[Session] = []
    num_running = 0

    async def one(scheduler: Scheduler, max_tokens: int) -> None:
        nonlocal num_running
        async with scheduler.lease(chat_model, "a") as lease:
            assert isinstance(lease.session, Session)
            sessions.append(lease.session)
            try:
                async for event in lease.session.generate(ask(max_tokens=max_tokens, ignore_eos=True)):
                    num_running += isinstance(event, Delta)
                outcomes.append("answered")
            except EngineError as error:
                assert "process" in error.message
                outcomes.append("error")

    async with Scheduler({"llama_cpp": llama_cpp.Engine()}, settings, tmp_path) as scheduler:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(one, scheduler, 400)
                while num_running < 12:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                tasks.start_soon(one, scheduler, 4)  # in line when it happens
                await anyio.sleep(0.01)
                os.kill(sessions[0].process.pid, signal.SIGKILL)
            assert outcomes == ["error"] * 3 + ["answered"]
            await one(scheduler, 4)
        assert outcomes[-1] == "answered" and sessions[-1] is sessions[-2] is not sessions[0]


async def test_a_request_to_a_dead_worker_is_an_error_at_once_and_closing_still_works(load: Load) -> None:
    loaded = await load(slots=1)
    os.kill(loaded.session.process.pid, signal.SIGKILL)
    with anyio.fail_after(BOUND_S):
        while not loaded.session.is_broken:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        for request in (ask(), chat("Hi")):
            with pytest.raises(EngineError):
                await events_of(loaded, request)
        with pytest.raises(EngineError):
            await loaded.session.metrics()
        await loaded.session.close()
    assert not psutil.pid_exists(loaded.session.process.pid)


async def test_a_file_that_ends_its_worker_does_not_touch_the_stream_of_another_model(
    load: Load, chat_model: StoredModel, tmp_path: Path
) -> None:
    path = patched(chat_model.path("weights"), tmp_path / "dead.gguf", *HOSTILE["no layers"])
    loaded = await load()
    events: list[Event] = []
    async for event in loaded.session.generate(ask(max_tokens=60, ignore_eos=True)):
        events.append(event)
        if len(events) == 3:
            with pytest.raises(EngineError, match="process of llama") as caught:
                await load(by_hand(path, "dead", "generate", "gguf"))
            assert "catena verify dead" in caught.value.hint
    assert usage_of(events).completion_tokens == 60


async def test_a_library_that_cannot_be_imported_is_named(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no libgomp here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EngineError, match="no libgomp here"):
        await load()


# --- whom it outlives ---


async def test_stopping_the_terminal_does_not_stop_an_answer(load: Load) -> None:
    loaded = await load()
    pid = loaded.session.process.pid
    assert os.getpgid(pid) != os.getpgid(0), "Ctrl-C would reach it"
    events: list[Event] = []
    async for event in loaded.session.generate(ask(max_tokens=30, ignore_eos=True)):
        events.append(event)
        if len(events) in (3, 6):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
    assert usage_of(events).completion_tokens == 30


async def test_the_library_cannot_write_to_the_output_of_the_command(load: Load) -> None:
    pid = (await load()).session.process.pid
    assert {os.readlink(f"/proc/{pid}/fd/{fileno}") for fileno in (0, 1, 2)} == {os.devnull}  # noqa: PTH115


def test_a_worker_ends_when_its_socket_does() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        started = process._start(theirs.fileno())
    ours.close()
    assert started.wait(BOUND_S) == 0


LOADING = """
import sys, anyio
from pathlib import Path
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.protocols import Placement
from catena.run.engines import llama_cpp

async def main(path):
    entry = FileEntry("weights", path.name, path.stat().st_size, "sha256:" + "0" * 64)
    manifest = Manifest("m", "generate", "gguf", (entry,), "", Provenance("test"))
    model = StoredModel(manifest, "sha256:" + "0" * 64, {path.name: path})
    session = await llama_cpp.Engine().load(model, Placement(slots=1, context_tokens=256))
    print(flush=True)
    await anyio.sleep_forever()

anyio.run(main, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("stage", ["loading", "loaded"])
def test_a_worker_dies_with_its_gateway_however_that_dies(chat_model: StoredModel, stage: str) -> None:
    """In the middle of a load it is held still, so that nothing but the system can end it."""
    command = [sys.executable, "-c", LOADING, str(chat_model.path("weights"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as gateway:
        try:
            assert gateway.stdout is not None
            if stage == "loaded":
                assert gateway.stdout.readline() == b"\n"
            bound_s = time.monotonic() + BOUND_S
            pids: list[int] = []
            while not pids and time.monotonic() < bound_s:
                pids = [child.pid for child in psutil.Process(gateway.pid).children() if has_library(child.pid)]
            (pid,) = pids
            os.kill(pid, signal.SIGSTOP if stage == "loading" else signal.SIGINT)
        finally:
            gateway.kill()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < bound_s, "it is still there"
        time.sleep(0.005)


async def test_the_counters_of_the_library_can_be_read(load: Load) -> None:
    loaded = await load()
    await events_of(loaded, ask(max_tokens=5))
    assert "llamacpp:tokens_predicted_total" in await loaded.session.metrics()
