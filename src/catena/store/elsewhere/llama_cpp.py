"""The cache of llama.cpp: LLAMA_CACHE, or ~/.cache/llama.cpp, flat before March 2026, then as Hugging Face's.

Source: llama.cpp, common/download.cpp and pull requests 7826, 20775 and 21009.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from catena.core.manifest import StoredModel
from catena.store.elsewhere import Found
from catena.store.elsewhere.laying import PUBLISHER, Plan, gguf_files, snapshot
from catena.store.elsewhere.walking import HUB_PREFIX, Walk, is_gguf, snapshots


def roots() -> tuple[Path, ...]:
    """The one cache that the environment names."""
    if named := os.environ.get("LLAMA_CACHE"):
        return (Path(named).expanduser(),)
    if sys.platform == "darwin":
        return (Path.home() / "Library" / "Caches" / "llama.cpp",)
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "llama.cpp",)


def plan(model: StoredModel) -> Plan:
    """A repository of the publisher `catena`, as llama.cpp finds it since March 2026 (`-hf catena/NAME`)."""
    files = gguf_files(model, "llama.cpp")
    return snapshot(model, f"{HUB_PREFIX}{PUBLISHER}--{model.name}", model.digest[7:47], files)


def find(root: Path) -> Iterator[Found]:
    """The models of the cache: files in it by their names, repositories by theirs."""
    walk = Walk(root)
    for path in walk.entries(root):
        if path.is_file() and is_gguf(path):
            yield walk.model(path.stem, path)
    yield from snapshots(walk, root, HUB_PREFIX)
