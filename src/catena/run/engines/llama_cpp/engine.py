"""Loads a GGUF model into a process of its own, where the library's HTTP side is shut off from everybody."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from catena.core.errors import EngineError, ResourceError, UnsupportedError
from catena.core.manifest import StoredModel, Task
from catena.core.protocols import Placement, SessionFacts
from catena.core.units import bytes_text
from catena.run import contexts, devices
from catena.run.engines.llama_cpp.encoding import Embedding, Reranking
from catena.run.engines.llama_cpp.header import Header, read
from catena.run.engines.llama_cpp.kept import Kept
from catena.run.engines.llama_cpp.parameters import CONTEXT_STEP, VERSION, Files, settings
from catena.run.engines.llama_cpp.process import Process
from catena.run.engines.llama_cpp.session import Session
from catena.store.formats import gguf

COMPUTE_BYTES = 64 << 20
# A picture of the greatest size, decoded and once more in its message, and what its encoder computes with.
PICTURE_BYTES = 256 << 20
_DRAFT_HINT = "take it out of run.drafts"
TASKS = ("generate", "embed", "rerank")
# A model that only reads computes a text at once, in memory that grows with the square of its length: so many tokens,
# unless `run.context_tokens` says otherwise.
READING_TOKENS = 2048
# Longest path of a unix socket on Linux is 107 bytes, on macOS 103.
MAX_SOCKET_PATH = 100


class Engine:
    """llama.cpp by way of the xllamacpp wheel."""

    def accepts(self, model: StoredModel) -> str | None:
        """None for a GGUF model that generates, embeds or reranks, else why not."""
        if model.manifest.format != "gguf":
            return f"llama_cpp reads gguf, not {model.manifest.format}"
        if model.manifest.task not in TASKS:
            return f"llama_cpp is for {', '.join(TASKS)}; the task of {model.name} is {model.manifest.task}"
        return None

    async def load(self, model: StoredModel, placement: Placement) -> Session | Embedding | Reranking:
        """Load `model` with as many slots, up to `placement.slots`, as memory holds at full context each.

        A file of role `template` replaces the chat template of the weights, one of role `projector` lets the model read
        pictures or sounds. Raises ResourceError with both numbers when not even one slot fits, UnsupportedError for a
        `kv_type` that the model's heads do not allow, FormatError for an unreadable header, EngineError when the
        library cannot load.
        """
        if placement.device != "cpu":
            raise ResourceError(f"llama_cpp has no device {placement.device!r} here", hint="use device cpu")
        header = await anyio.to_thread.run_sync(_header, model)
        weights_bytes = sum(file.size_bytes for file in model.manifest.files if file.role in ("weights", "projector"))
        weights_bytes += PICTURE_BYTES if header.reads else 0
        weights_bytes += sum(file.size_bytes for adapter in placement.adapters for file in adapter.manifest.files)
        task = model.manifest.task
        context_tokens = _context(model.name, header, placement, task)
        if task == "generate":
            fixed_bytes = weights_bytes + placement.prompt_cache_bytes + COMPUTE_BYTES
        else:
            fixed_bytes = weights_bytes + COMPUTE_BYTES + 4 * header.num_heads * context_tokens**2
        slot_bytes = context_tokens * _cache_token_bytes(model.name, header, placement, task)
        draft = placement.draft if task == "generate" else None
        if draft is not None:
            drafting = await anyio.to_thread.run_sync(_drafting, model, draft, header)
            fixed_bytes += COMPUTE_BYTES + sum(file.size_bytes for file in draft.manifest.files)
            slot_bytes += context_tokens * drafting.cache_token_bytes
        slots, memory_bytes = _fit(model.name, fixed_bytes, slot_bytes, placement.slots)
        facts = SessionFacts(
            engine=f"llama_cpp {VERSION}",
            device="cpu",
            slots=slots,
            context_tokens=context_tokens,
            memory_bytes=memory_bytes,
        )
        files = Files(
            str(model.path("weights")),
            tuple(str(adapter.path("weights")) for adapter in placement.adapters),
            header.template if _has(model, "template") else "",
            str(model.path("projector")) if header.reads else "",
            str(draft.path("weights")) if draft is not None else "",
        )
        kept = _kept(header, placement, facts) if task == "generate" and draft is None else None
        if kept is not None:
            states = tuple(await anyio.to_thread.run_sync(kept.claim))
            files = msgspec.structs.replace(files, states_folder=str(kept.folder), states=states)
        try:
            process = await _begun(model, files, facts, placement)
        except EngineError:
            if kept is None or not files.states:
                raise
            # It may be the states that it cannot bear: they are worth less than the model.
            kept.begin()
            process = await _begun(model, msgspec.structs.replace(files, states=()), facts, placement)
        if task == "embed":
            return Embedding(process, facts, header)
        if task == "rerank":
            return Reranking(process, facts, header)
        return Session(process, facts, header, tuple(adapter.name for adapter in placement.adapters), kept)


async def _begun(model: StoredModel, files: Files, facts: SessionFacts, placement: Placement) -> Process:
    with _private_folder(placement.folder) as folder:
        return await _hosted(model.name, settings(model.name, model.manifest.task, files, facts, placement, folder))


def _kept(header: Header, placement: Placement, facts: SessionFacts) -> Kept | None:
    """Where states outlive the session. The library says nothing of adapters in a state, saves none with pictures, and
    is asked for them in a way that exists on Linux only."""
    if not placement.kept_folder or placement.adapters or header.reads or sys.platform != "linux":
        return None
    depends = (VERSION, facts.context_tokens, placement.kv_type, placement.context)
    return Kept(Path(placement.kept_folder), depends, placement.kept_bytes)


async def _hosted(name: str, settings: dict[str, Any]) -> Process:
    """A process that has loaded the model; none is left when that fails or is cancelled."""
    process = Process()
    try:
        await process.load(settings)
    except EngineError as error:
        has_ended = process.has_ended
        status = await process.end()
        # Nobody but the system, when it is out of memory, kills without a word.
        is_killed = has_ended and status == -signal.SIGKILL
        hint = "it may need more memory than there is" if is_killed else f"run `catena verify {name}`"
        raise EngineError(f"llama.cpp cannot load {name}: {error.message}", hint=hint) from error
    except BaseException:
        await process.end()
        raise
    return process


def _header(model: StoredModel) -> Header:
    header = read(model.path("weights"))
    if _has(model, "template"):
        header = msgspec.structs.replace(header, template=model.path("template").read_text(encoding="utf-8"))
    if _has(model, "projector") and model.manifest.task == "generate":
        header = msgspec.structs.replace(header, reads=frozenset(gguf.projects(model.path("projector"))))
    return header


def _has(model: StoredModel, role: str) -> bool:
    return any(entry.role == role for entry in model.manifest.files)


def _context(name: str, header: Header, placement: Placement, task: Task) -> int:
    """Tokens of each slot. Raises ConfigError, UnsupportedError for positions that cannot be scaled."""
    trained = header.context_tokens or placement.context_tokens or 4096
    if task != "generate":
        wanted = contexts.fitted(name, trained, placement)
        return min(trained, _rounded(wanted if placement.context_tokens else min(wanted, READING_TOKENS)))
    if placement.context.has_rope and not header.has_rope:
        raise UnsupportedError(f"{name} has no rotary positions", hint=f"take rope_… out of run.contexts.{name}")
    if placement.context.has_rope and placement.draft is not None:
        raise UnsupportedError(f"nothing can draft for {name} while its positions are scaled", hint=_DRAFT_HINT)
    most = contexts.reach(name, trained, header.original_tokens, placement.context)
    return min(most, _rounded(contexts.bounded(name, most, placement.context_tokens or most, placement)))


def _rounded(context_tokens: int) -> int:
    return -(-context_tokens // CONTEXT_STEP) * CONTEXT_STEP


def _drafting(model: StoredModel, draft: StoredModel, header: Header) -> Header:
    """The header of a draft. Raises UnsupportedError if it cannot guess for `model`."""
    if (draft.manifest.format, draft.manifest.task) != ("gguf", "generate"):
        raise UnsupportedError(f"{draft.name} cannot draft: it is no GGUF model that generates", hint=_DRAFT_HINT)
    if header.reads:
        raise UnsupportedError(f"{model.name} reads more than text, for which nothing can draft", hint=_DRAFT_HINT)
    if gguf.vocabulary(model.path("weights")) != gguf.vocabulary(draft.path("weights")):
        raise UnsupportedError(
            f"{draft.name} cannot draft for {model.name}: their vocabularies differ",
            hint=f"choose a smaller model of the same family, or {_DRAFT_HINT}",
        )
    return read(draft.path("weights"))


def _cache_token_bytes(name: str, header: Header, placement: Placement, task: Task) -> int:
    """What one token's keys and values take as numbers of the type that was asked for. Raises UnsupportedError."""
    if task != "generate":
        return header.cache_token_bytes
    kind = next(kind for kind in gguf.KINDS.values() if kind.name == placement.kv_type.upper())
    if any(width % kind.block for width in header.head_widths):
        raise UnsupportedError(
            f"run.kv_type {placement.kv_type} takes {kind.block} numbers together, and the heads of {name} have "
            f"{' and '.join(map(str, sorted(set(header.head_widths))))}",
            hint="set run.kv_type to f16",
        )
    return header.cache_token_bytes // 2 * kind.block_bytes // kind.block


def _fit(name: str, fixed_bytes: int, slot_bytes: int, slots: int) -> tuple[int, int]:
    """How many of `slots` fit in the memory that is free, each with a cache for the whole context; and bytes in all."""
    free_bytes = devices.memory().free_bytes
    for count in range(slots, 0, -1):
        needed = fixed_bytes + count * slot_bytes
        if needed <= free_bytes:
            return count, needed
    raise ResourceError(
        f"{name} needs {bytes_text(fixed_bytes + slot_bytes)} of memory for one request at full context, "
        f"{bytes_text(free_bytes)} is free",
        hint="set run.context_tokens or run.prompt_cache_bytes lower, run.kv_type to q8_0, or close other programs",
    )


@contextmanager
def _private_folder(parent: str) -> Generator[Path]:
    """A folder (0700) for the socket, removed with it at once: no name is left by which anybody could connect."""
    base = parent if parent and len(os.fsencode(parent)) + 24 < MAX_SOCKET_PATH else None
    folder = Path(tempfile.mkdtemp(prefix="llama-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
