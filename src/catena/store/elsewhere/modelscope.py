"""The cache of ModelScope: MODELSCOPE_CACHE or ~/.cache/modelscope, in the layouts of today and of before.

Source: modelscope_hub 0.5.1, _download.py: models/OWNER--NAME/snapshots/REVISION; until modelscope 1.37
[hub/]models/OWNER/NAME with each dot of the name written as three underscores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from catena.core.manifest import StoredModel
from catena.store.elsewhere import Found
from catena.store.elsewhere.laying import PUBLISHER, Plan
from catena.store.elsewhere.walking import Walk, snapshots


def roots() -> tuple[Path, ...]:
    """The one cache that the environment names."""
    named = os.environ.get("MODELSCOPE_CACHE")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "modelscope",)


def plan(model: StoredModel) -> Plan:
    """A snapshot of the publisher `catena`, in the layout of today."""
    folder = f"models/{PUBLISHER}--{model.name}/snapshots/master"
    files = {f"{folder}/{entry.name}": model.paths[entry.name] for entry in model.manifest.files}
    return Plan(f"{PUBLISHER}/{model.name}", files)


def find(root: Path) -> Iterator[Found]:
    """The models of all layouts by owner and name."""
    walk = Walk(root)
    for folder in (root / "models", root / "hub" / "models"):
        if not walk.is_within(folder):
            continue
        yield from snapshots(walk, folder, "")
        for owner in walk.folders(folder):
            if "--" not in owner.name:
                for model in walk.folders(owner):
                    yield from walk.models(f"{owner.name}/{model.name.replace('___', '.')}", model)
