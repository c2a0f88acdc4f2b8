"""Starts the server of a model, waits until it answers, and makes of it a session; what fails leaves nothing behind."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec
import psutil
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import (
    CatenaError,
    EngineError,
    FormatError,
    NetworkError,
    ResourceError,
    UnsupportedError,
)
from catena.core.manifest import StoredModel, Task
from catena.core.messages import ToolChoice
from catena.core.protocols import Placement, SessionFacts
from catena.core.settings import ServedSettings
from catena.run import contexts, devices
from catena.run.dialects.openai import OpenAI
from catena.run.served.asking import Abilities
from catena.run.served.backoff import Backoff
from catena.run.served.connection import LOOPBACK, Address, exchange
from catena.run.served.environment import scrubbed
from catena.run.served.installation import Installation, Server, find, search_path
from catena.run.served.output import Output
from catena.run.served.process import Process
from catena.run.served.session import BASE, MODEL, Counting, Embedding, Generating, Running

TASKS = ("generate", "embed")
# What both servers take beyond OpenAI's reference.
QUIRKS = frozenset(
    {
        *("top_k", "min_p", "repetition_penalty", "ignore_eos", "chat_template_kwargs", "reasoning_content"),
    }
)
DEVICES = ("cuda", "rocm", "cpu")
TOKENIZERS = frozenset({"tokenizer", "sentencepiece", "vocabulary", "word_pieces"})
PROJECTORS = frozenset({"preprocessor", "processor"})
# Longest path of a unix socket on Linux is 107 bytes, on macOS 103.
MAX_SOCKET_PATH = 100
POLL_S, PROBE_S = 0.2, 30.0
# What torch and the servers print when a device has too little memory.
_NO_MEMORY = (
    *("OutOfMemoryError", "out of memory", "Free memory on device", "No available memory for the cache blocks"),
    *("larger than the available KV cache memory", "Not enough memory"),
)
_PHASES = {
    "Loading safetensors checkpoint shards": "loading weights",
    "Load weight begin": "loading weights",
    "Loading weights took": "preparing the cache",
    "Load weight end": "preparing the cache",
    "apturing CUDA graph": "capturing graphs",
    "apture cuda graph": "capturing graphs",
    "Application startup complete": "answering",
}

log = logging.getLogger("catena.run.served")


class Launch(NamedTuple):
    """What a command line is built of; `private` is a folder of its owner only, gone with the server.

    `context_tokens` 0: the model's own.
    """

    folder: Path
    task: Task
    device: str
    slots: int
    context_tokens: int
    address: Address
    key: str
    private: Path


class Kind(Struct, frozen=True):
    """How a server differs from others: whether it listens on a socket in a folder, the words of its dialect, its
    command line and own variables for a launch, whether it counts, and what its arguments lack for tools."""

    server: Server
    title: str
    has_socket: bool
    quirks: frozenset[str]
    is_counting: bool
    build: Callable[[Launch], tuple[list[str], Mapping[str, str]]]
    lacking: Callable[[tuple[str, ...], ToolChoice], str]


class ModelWire(Struct, frozen=True):
    id: str
    max_model_len: int | None = None


class ModelsWire(Struct, frozen=True):
    data: list[ModelWire]


class ServedEngine:
    """An engine that starts a server of its `kind` for each model, as the settings of that kind describe it."""

    kind: Kind

    def __init__(self, settings: ServedSettings | None = None) -> None:
        self._settings = settings or ServedSettings()
        self._backoff = Backoff()

    def installation(self) -> Installation:
        """Where the server is, or why it cannot be used."""
        return find(self.kind.server, self._settings)

    def accepts(self, model: StoredModel) -> str | None:
        """None for a safetensors model that generates or embeds, where the server is installed; else why not."""
        name, manifest = self.kind.server.name, model.manifest
        if manifest.format != "safetensors":
            return f"{name} reads safetensors, not {manifest.format}"
        if manifest.task not in TASKS:
            return f"{name} is for {' and '.join(TASKS)}; the task of {model.name} is {manifest.task}"
        roles = {entry.role for entry in manifest.files}
        if not roles >= {"weights", "config"} or not roles & TOKENIZERS:
            return f"{name} needs config.json and a tokenizer beside the weights of {model.name}"
        return self.installation().reason or None

    async def load(self, model: StoredModel, placement: Placement) -> Generating | Embedding:
        """Start a server with `model` and wait until it answers; how long that may take is for the scheduler to say.

        Raises FormatError for files that are not what they were, ResourceError for a device that is not there or has
        too little memory, BusyError after failures in a row, EngineError for a server that does not start.
        """
        if placement.adapters:
            raise UnsupportedError(f"{self.kind.title} is not given adapters here", hint="ask the model without them")
        device = await anyio.to_thread.run_sync(self._device, placement.device)
        await anyio.to_thread.run_sync(_check_files, model)
        self._backoff.check(model.digest, model.name)
        try:
            running, context_tokens = await self._started(model, placement, device)
        except CatenaError:
            self._backoff.failed(model.digest)
            raise
        version = self.installation().version or "of unknown version"
        facts = SessionFacts(
            engine=f"{self.kind.server.name} {version}",
            device=device,
            slots=self._settings.slots,
            context_tokens=context_tokens,
            memory_bytes=sum(entry.size_bytes for entry in model.manifest.files),
        )
        return self._session(model, running, facts)

    def _session(self, model: StoredModel, running: Running, facts: SessionFacts) -> Generating | Embedding:
        dialect, on_end = OpenAI(self.kind.quirks), partial(self._ended, model.digest)
        if model.manifest.task == "embed":
            return Embedding(running, facts, dialect, on_end, int(model.fact("embedding_width", 0)))
        has_images = any(entry.role in PROJECTORS for entry in model.manifest.files)
        lacking = partial(self.kind.lacking, self._settings.arguments)
        abilities = Abilities(facts.slots, has_images, lacking)
        session = Counting if self.kind.is_counting else Generating
        return session(running, facts, dialect, on_end, abilities)

    def _ended(self, digest: str, is_steady: bool) -> None:
        if is_steady:
            self._backoff.succeeded(digest)
        else:
            self._backoff.failed(digest)

    def _device(self, asked: str) -> str:
        """The device of the settings, else the one asked for, else what this machine has: `cpu` asks for nothing."""
        if asked not in DEVICES:
            raise ResourceError(f"{self.kind.title} has no device {asked!r}", hint=f"use {', '.join(DEVICES)}")
        if self._settings.device:
            return self._settings.device
        drivers = {(one.vendor, one.driver) for one in devices.accelerators() if one.kind == "gpu"}
        found = "cuda" if ("NVIDIA", "nvidia") in drivers else "rocm" if ("AMD", "amdgpu") in drivers else "cpu"
        if asked not in ("cpu", found):
            raise ResourceError(f"there is no device {asked!r} here", hint=f"use {found}, or set the device by hand")
        return found

    async def _started(self, model: StoredModel, placement: Placement, device: str) -> tuple[Running, int]:
        private = Path(tempfile.mkdtemp(prefix=f"{self.kind.server.name}-", dir=_base(placement.folder)))
        process: Process | None = None
        try:
            address = Address(str(private / "socket")) if self.kind.has_socket else Address(port=free_port())
            launch = Launch(
                model.path("config").parent,
                model.manifest.task,
                device,
                self._settings.slots,
                _context(model, placement),
                address,
                secrets.token_hex(32),
                private,
            )
            name = f"{self.kind.server.name}-{model.digest.rpartition(':')[2][:12]}.log"
            output = Output(Path(placement.folder or private) / name, [launch.key])
            process = self._process(launch, output)
            running = Running(self.kind.title, process, address, launch.key, private, output.path, monotonic_s())
            context_tokens = await self._ready(model, running, output)
        except BaseException:
            with anyio.CancelScope(shield=True):
                if process is not None:
                    await process.end()
                await anyio.to_thread.run_sync(shutil.rmtree, private, True)
            raise
        return running, context_tokens

    def _process(self, launch: Launch, output: Output) -> Process:
        installation = self.installation()
        try:
            if installation.reason:
                raise EngineError(installation.reason)
            arguments, own = self.kind.build(launch)
            path = search_path(installation.command, os.environ.get("PATH", ""))
            environ = scrubbed(os.environ, {"PATH": path, **own})
            return Process([*installation.command, *arguments, *self._settings.arguments], environ, output)
        except BaseException:
            output.end()
            raise

    async def _ready(self, model: StoredModel, running: Running, output: Output) -> int:
        """Wait until the server answers with its model; the context that it has, in tokens."""
        process, phase = running.process, ""
        await process.watch()
        while not await self._is_healthy(running):
            if process.has_ended:
                raise await self._failure(model, running, output)
            if (word := output.last(_PHASES)) and _PHASES[word] != phase:
                phase = _PHASES[word]
                log.info("%s, %s: %s", self.kind.title, model.name, phase)
            await process.wait(POLL_S)
        headers = {"authorization": f"Bearer {running.key}"}
        try:
            async with exchange(running.address, "GET", f"{BASE}/models", headers, silence_s=PROBE_S) as answer:
                found = msgspec.json.decode(await answer.whole(), type=ModelsWire) if answer.status == 200 else None
        except (NetworkError, msgspec.DecodeError, UnicodeDecodeError):
            found = None
        tokens = next((one.max_model_len for one in found.data if one.id == MODEL), None) if found else None
        if not tokens:
            raise EngineError(f"{self.kind.title} does not say what it loaded", hint=f"see {output.path}")
        log.info("%s, %s: ready in %.1f s", self.kind.title, model.name, monotonic_s() - running.began_s)
        return tokens

    async def _is_healthy(self, running: Running) -> bool:
        try:
            async with exchange(running.address, "GET", "/health", {}, silence_s=PROBE_S) as answer:
                await answer.whole()
                if answer.status != 200:
                    return False
        except NetworkError:
            return False
        # Until now nothing secret was sent. The port might be somebody else's by now.
        return bool(running.address.socket) or await anyio.to_thread.run_sync(
            _is_listening, running.process.pid, running.address.port
        )

    async def _failure(self, model: StoredModel, running: Running, output: Output) -> CatenaError:
        """Why the server ended before it answered; its own words stay in its log."""
        status = await running.process.end()
        word = output.last(_PHASES)
        while_text = f" while {_PHASES[word]}" if word else ""
        if output.has(_NO_MEMORY):
            return ResourceError(
                f"{self.kind.title} has too little memory on its device for {model.name}",
                hint=f"set run.context_tokens or run.{self.kind.server.name}.slots lower; see {output.path}",
            )
        if status == -signal.SIGKILL:
            # Nobody but the system, when it is out of memory, kills without a word.
            return ResourceError(
                f"{self.kind.title} was killed{while_text}", hint="it may need more memory than there is"
            )
        return EngineError(
            f"{self.kind.title} cannot load {model.name}: it ended with status {status}{while_text}",
            hint=f"see {output.path}",
        )


def _check_files(model: StoredModel) -> None:
    """Raises FormatError unless every file is there, of its size, in one folder."""
    folder = model.path("config").parent
    for entry in model.manifest.files:
        path = model.paths[entry.name]
        try:
            is_good = path.stat().st_size == entry.size_bytes and path == folder / entry.name
        except OSError:
            is_good = False
        if not is_good:
            raise FormatError(
                f"{entry.name} of {model.name} is not what it was", hint=f"run `catena verify {model.name}`"
            )


def _context(model: StoredModel, placement: Placement) -> int:
    found = contexts.fitted(model.name, int(model.fact("context_tokens", 0)), placement)
    return found if placement.context_tokens else 0


def _base(folder: str) -> str | None:
    """Where private folders are made: in `folder`, unless sockets there would have too long a name."""
    return folder if folder and len(os.fsencode(folder)) + 32 < MAX_SOCKET_PATH else None


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]


def _is_listening(pid: int, port: int) -> bool:
    """Whether a process below `pid` is the one that listens on `port`."""
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return False
    for one in family:
        try:
            held = one.net_connections("tcp")
        except psutil.Error:
            continue
        if any(each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port for each in held):
            return True
    return False
