"""LM Studio: models/PUBLISHER/MODEL/files, in ~/.lmstudio, or ~/.cache/lm-studio of versions before 0.3.

Source: https://lmstudio.ai/docs/app/advanced/import-model; ~/.lmstudio-home-pointer names a home that was moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from catena.core.manifest import StoredModel
from catena.store.elsewhere import Found
from catena.store.elsewhere.laying import PUBLISHER, Plan, gguf_files
from catena.store.elsewhere.walking import Walk, first_text


def roots() -> tuple[Path, ...]:
    """The home that the pointer names, the usual one, and the old one."""
    home = Path.home()
    homes = [home / ".lmstudio", home / ".cache" / "lm-studio"]
    pointed = Path(first_text(home / ".lmstudio-home-pointer"))
    if pointed.is_absolute() and "\0" not in str(pointed) and pointed not in homes:
        homes.insert(0, pointed)
    return tuple(each / "models" for each in homes)


def plan(model: StoredModel) -> Plan:
    """A folder of the publisher `catena`."""
    files = gguf_files(model, "LM Studio")
    name = f"{PUBLISHER}/{model.name}"
    return Plan(name, {f"{name}/{file}": path for file, path in files.items()})


def find(root: Path) -> Iterator[Found]:
    """The models by publisher and name."""
    walk = Walk(root)
    for publisher in walk.folders(root):
        for folder in walk.folders(publisher):
            yield from walk.models(f"{publisher.name}/{folder.name}", folder)
