"""The places of a state folder: which file is whose, so that a scan knows what may go and says why the rest stays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from catena.reach.forgetting.forms import Forms
from catena.reach.forgetting.scan import Hit, scan
from catena.reach.sealing import overwrite

DATABASE = "catena.db"
_TUNED = "privacy-context.json.gz"
_MODELS = ("blobs",)
# Below these lie sealed items, which only their own stores delete; beside them, whatever somebody left there.
_ITEMS = {"files": b"CVF1", "egress": b"CV1"}
_JOURNALS = ("batches", "files/drafts")
_OWN_FOLDERS = ("keys", "audit", *_MODELS)
_OWN_FILES = ("gateway.json", "forgetting", ".forgetting.draft")
_DATABASES = (DATABASE, "responses.db", "labels.db")
_SIDES = ("", "-wal", "-shm", "-journal", ".sealing", ".sealing-wal", ".sealing-shm")
_CHANCE = "a short text is found by chance in what is encrypted; or it came in just now: forget again"


class Left(Struct, frozen=True):
    """A file that still holds texts (by number, from 1), and what can be done."""

    path: str
    texts: tuple[int, ...]
    why: str


def others(home: Path, forms: Forms) -> list[str]:
    """Files that hold a text and that no part of Catena answers for: backups, logs, copies, what engines left."""
    if not forms:
        return []
    seen = scan(home, forms, is_wanted=lambda path: not _is_own(home, path))
    return [hit.path for hit in seen.hits]


def destroy(home: Path, names: Iterable[str]) -> list[str]:
    """Overwrite and delete these files; those that went."""
    gone: list[str] = []
    for name in names:
        try:
            with (home / name).open("r+b") as file:
                overwrite(file.fileno())
            (home / name).unlink(missing_ok=True)
        except FileNotFoundError:
            continue
        except OSError:  # told as left
            continue
        gone.append(name)
    return gone


def is_model(home: Path, path: Path) -> bool:
    """Whether a file is part of a model, which holds nothing of what callers said."""
    return path.relative_to(home).parts[0] in _MODELS


def left(hit: Hit) -> Left:
    """Why a file still holds a text."""
    top = hit.path.partition("/")[0]
    if top.endswith(".toml") or top == _TUNED:
        why = "settings of yours hold it: edit the file"
    elif top == "audit":
        why = "a record names it, as the name of a model or of a setting: the log cannot be rewritten"
    elif top.startswith(DATABASE):
        why = "a model's name or description holds it: `catena models`, `catena rm`, `catena gc`"
    elif top in ("keys", "responses.db", "labels.db", *_ITEMS, *_JOURNALS):
        why = _CHANCE
    else:
        why = "it cannot be deleted: see to its permissions"
    return Left(hit.path, hit.texts, why)


def _is_own(home: Path, path: Path) -> bool:
    name = str(path.relative_to(home))
    top, _, rest = name.partition("/")
    if not rest:
        is_database = any(name == base + side for base in _DATABASES for side in _SIDES)
        return is_database or name in (*_OWN_FILES, _TUNED) or name.endswith(".toml")
    if top in _OWN_FOLDERS or name.startswith(tuple(f"{folder}/" for folder in _JOURNALS)):
        return True
    magic = _ITEMS.get(top)
    if magic is None:
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return True
