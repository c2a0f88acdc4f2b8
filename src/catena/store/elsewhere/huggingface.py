"""The cache of Hugging Face's libraries: HF_HUB_CACHE, HF_HOME, or ~/.cache/huggingface/hub.

Source of layout and variables: Hugging Face, "Hub local cache"; llama.cpp uses it too since pull request
20775 of March 2026.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from catena.core.manifest import StoredModel
from catena.store.elsewhere import Found
from catena.store.elsewhere.laying import PUBLISHER, Plan, snapshot
from catena.store.elsewhere.walking import HUB_PREFIX, Walk, snapshots


def roots() -> tuple[Path, ...]:
    """The one cache that the environment names."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if named := os.environ.get(variable):
            return (Path(named).expanduser(),)
    home = os.environ.get("HF_HOME")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return ((Path(home).expanduser() if home else caches / "huggingface") / "hub",)


def plan(model: StoredModel) -> Plan:
    """A repository of the publisher `catena`, at a revision made of the manifest's digest."""
    files = {entry.name: model.paths[entry.name] for entry in model.manifest.files}
    return snapshot(model, f"{HUB_PREFIX}{PUBLISHER}--{model.name}", model.digest[7:47], files)


def find(root: Path) -> Iterator[Found]:
    """The models of the cache, each at one revision."""
    yield from snapshots(Walk(root), root, HUB_PREFIX)
