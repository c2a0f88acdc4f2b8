"""Engines that start a server of another project meet a stand-in of it here, with models that only a stand-in loads."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from tests.run.served import places

from catena.core.manifest import FileEntry, Manifest, Provenance

ENGINES = ("sglang", "vllm")
TASKS: dict[str, Any] = {"served-generate": "generate", "served-embed": "embed"}
# Slow enough that requests overlap, and that a new connection takes no more time than a few tokens.
TOKEN_S = 0.02


def _card(name: str) -> Manifest:
    files = tuple(FileEntry(role, role, 1, "sha256:" + "0" * 64) for role in ("weights", "config", "tokenizer"))
    return Manifest(name, TASKS[name], "safetensors", files, "", Provenance("test"))


CARDS = tuple(_card(name) for name in TASKS)


def fits(engine: str, model: str) -> bool:
    """Whether the suites are to try this pair. Both servers embed alike, so one is enough."""
    return (engine in ENGINES) == (model in TASKS) and (engine, model) != ("sglang", "served-embed")


def arguments(engine: str) -> tuple[Any, ...]:
    """What such an engine is made with; nothing for another."""
    return (_place(engine).settings(),) if engine in ENGINES else ()


def folder(base: Path, name: str) -> Path:
    """What the store is to pull."""
    return places.model_files(base / name, TASKS[name])


@functools.cache
def _place(engine: str) -> places.Place:
    return places.install(Path(tempfile.mkdtemp(prefix="catena-served-")), engine, token_s=TOKEN_S)
