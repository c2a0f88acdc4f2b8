"""Loads a GGUF model into the library's in-process server, with its own HTTP side shut off from everybody."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import psutil

from catena.core.errors import EngineError, MissingExtraError, ResourceError
from catena.core.manifest import StoredModel
from catena.core.protocols import Placement, SessionFacts
from catena.core.units import bytes_text
from catena.run.engines.llama_cpp.header import Header, read
from catena.run.engines.llama_cpp.session import Session

try:
    import xllamacpp
except ModuleNotFoundError as error:
    raise MissingExtraError("xllamacpp", "llama") from error

# The wheel has no type stubs.
_library: Any = xllamacpp
# A prompt is computed in batches of this many tokens. A request can be dropped, and the other slots get their turn,
# between two batches; on a CPU larger ones are no faster (docs/decisions/0005-engines.md).
BATCH_TOKENS = 128
# The library gives each slot a multiple of this.
CONTEXT_STEP = 256
PROMPT_CACHE_MIB = 256
COMPUTE_BYTES = 64 << 20
# Longest path of a unix socket on Linux is 107 bytes, on macOS 103.
MAX_SOCKET_PATH = 100
_loading = threading.Lock()


class Engine:
    """llama.cpp by way of the xllamacpp wheel."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for a GGUF model that generates, else why not."""
        if model.manifest.format != "gguf":
            return f"llama_cpp reads gguf, not {model.manifest.format}"
        if model.manifest.task != "generate":
            return f"llama_cpp generates; the task of {model.name} is {model.manifest.task}"
        return None

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        """Load `model` with as many slots, up to `placement.slots`, as memory holds at full context each.

        A file of role `template` replaces the chat template of the weights. Raises ResourceError with both numbers
        when not even one slot fits, FormatError for an unreadable header, EngineError when the library cannot load.
        """
        if placement.device != "cpu":
            raise ResourceError(f"llama_cpp has no device {placement.device!r} here", hint="use device cpu")
        return await anyio.to_thread.run_sync(_load, model, placement)


def _load(model: StoredModel, placement: Placement) -> Session:
    header = _header(model)
    weights_bytes = sum(entry.size_bytes for entry in model.manifest.files if entry.role == "weights")
    weights_bytes += sum(file.size_bytes for adapter in placement.adapters for file in adapter.manifest.files)
    context_tokens = _context(header, placement)
    slots, memory_bytes = _fit(model.name, header, weights_bytes, context_tokens, placement.slots)
    facts = SessionFacts(
        engine=f"llama_cpp {_library.__version__}",
        device="cpu",
        slots=slots,
        context_tokens=context_tokens,
        memory_bytes=memory_bytes,
    )
    with _private_folder(placement.folder) as folder:
        params = parameters(model, header, facts, placement.threads, folder)
        params.lora_adapters = [_adapter(adapter) for adapter in placement.adapters]
        with _loading, _signals_kept():
            try:
                server = _library.Server(params)
            except RuntimeError as error:
                raise EngineError(
                    f"llama.cpp cannot load {model.name}",
                    hint=f"run `catena verify {model.name}`; is it for this engine?",
                ) from error
    return Session(server, facts, header, tuple(adapter.name for adapter in placement.adapters))


def parameters(model: StoredModel, header: Header, facts: SessionFacts, threads: int, folder: Path) -> Any:
    """The library's settings for a session; its HTTP side listens on a socket in `folder` only, with a random key."""
    params = _library.CommonParams()
    params.model.path = str(model.path("weights"))
    params.model_alias = {model.name}
    params.n_ctx = facts.slots * -(-facts.context_tokens // CONTEXT_STEP) * CONTEXT_STEP
    params.n_parallel = facts.slots
    params.kv_unified = False
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.fit_params = False
    params.ctx_shift = False
    params.prefill_assistant = False
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.verbosity = 0
    params.hostnames = [str(folder / "llama.sock")]
    params.api_keys = [secrets.token_urlsafe(32)]
    params.n_threads_http = 1
    params.ui = False
    params.cors_origins = ""
    params.endpoint_slots = False
    params.endpoint_metrics = True
    if any(entry.role == "template" for entry in model.manifest.files):
        params.chat_template = header.template
    return params


def _header(model: StoredModel) -> Header:
    header = read(model.path("weights"))
    if any(entry.role == "template" for entry in model.manifest.files):
        template = model.path("template").read_text(encoding="utf-8")
        return Header(header.context_tokens, header.cache_token_bytes, header.num_vocabulary, template)
    return header


def _context(header: Header, placement: Placement) -> int:
    trained = header.context_tokens or placement.context_tokens or 4096
    wanted = placement.context_tokens or trained
    return min(trained, -(-wanted // CONTEXT_STEP) * CONTEXT_STEP)


def _fit(name: str, header: Header, weights_bytes: int, context_tokens: int, slots: int) -> tuple[int, int]:
    """How many of `slots` fit in the memory that is free, each with a cache for the whole context; and bytes in all."""
    free_bytes = psutil.virtual_memory().available
    cache_bytes = context_tokens * header.cache_token_bytes
    for count in range(slots, 0, -1):
        needed = weights_bytes + count * cache_bytes + COMPUTE_BYTES
        if needed <= free_bytes:
            return count, needed
    needed = weights_bytes + cache_bytes + COMPUTE_BYTES
    raise ResourceError(
        f"{name} needs {bytes_text(needed)} of memory for one request of {context_tokens} tokens, "
        f"{bytes_text(free_bytes)} is free",
        hint="set run.context_tokens lower, or close other programs",
    )


def _adapter(model: StoredModel) -> Any:
    adapter = _library.CommonAdapterLoraInfo()
    adapter.path = str(model.path("weights"))
    adapter.scale = 0.0
    return adapter


@contextmanager
def _private_folder(parent: str) -> Generator[Path]:
    """A folder (0700) for the socket, removed with it at once: no name is left by which anybody could connect."""
    base = parent if parent and len(os.fsencode(parent)) + 24 < MAX_SOCKET_PATH else None
    folder = Path(tempfile.mkdtemp(prefix="llama-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _signals_kept() -> Generator[None]:
    """Undo what the library does to SIGINT and SIGTERM: its handlers would stop itself instead of this process."""
    if os.name == "nt":
        yield
        return
    libc = ctypes.CDLL(None)
    kept = {number: ctypes.create_string_buffer(512) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, action in kept.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in kept.items():
            libc.sigaction(int(number), action, None)
