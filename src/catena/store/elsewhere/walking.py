"""How folders of strangers are walked: so many entries and no more, no link out, models by the ends of names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from catena.core.errors import CatenaError
from catena.store import beside
from catena.store.elsewhere import Found
from catena.store.formats import plain_text
from catena.store.pull import local

MAX_ENTRIES = 50_000
MAX_DEPTH = 3
MAX_NAME_CHARS = 200
HUB_PREFIX = "models--"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Walk:
    """Lists folders below `root`; all in all MAX_ENTRIES."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._left = MAX_ENTRIES

    def entries(self, folder: Path) -> list[Path]:
        """What lies in a folder, sorted; nothing for one that cannot be read, and names only that can be printed."""
        found: list[Path] = []
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    self._left -= 1
                    if self._left < 0:
                        break
                    if entry.name.isprintable() and len(entry.name) <= MAX_NAME_CHARS:
                        found.append(folder / entry.name)
        except OSError:
            return []
        return sorted(found)

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder; hidden ones, and links out of the root, left out."""
        return [path for path in self.entries(folder) if path.name[0] != "." and path.is_dir() and self.is_within(path)]

    def is_within(self, path: Path) -> bool:
        """Whether `path`, links followed, exists below the root."""
        try:
            return path.resolve(strict=True).is_relative_to(self.root)
        except (OSError, RuntimeError):
            return False

    def models(self, name: str, folder: Path) -> Iterator[Found]:
        """The models in a folder and below it: called `name`, or `name`/FILE where there are several."""
        found = list(self._models(folder, MAX_DEPTH))
        for path in found:
            below = path.relative_to(folder).as_posix()
            yield self.model(name if len(found) == 1 else f"{name}/{below}", path)

    def model(self, name: str, path: Path) -> Found:
        """What makes the model at `path`, a file or a folder, whose files must all lie below the root."""
        format, size_bytes, digests, refusal = "", 0, dict[str, str](), ""
        try:
            chosen = local.choose(path)
            format = chosen.format
            for _, _, file in chosen.files:
                size_bytes += file.stat().st_size
                if not file.is_relative_to(self.root):
                    refusal = f"{file.name} is a link out of its folder"
                if _SHA256.fullmatch(file.name):
                    digests[str(file)] = f"sha256:{file.name}"
        except CatenaError as error:
            refusal = plain_text(error.message)
        except OSError as error:
            refusal = f"it cannot be read: {error.strerror}"
        return Found("", plain_text(name), path, self.root, format, size_bytes, digests=digests, refusal=refusal)

    def _models(self, folder: Path, depth: int) -> Iterator[Path]:
        """Files and folders that are models, or would be if nothing were wrong with them."""
        entries = self.entries(folder)
        files = [path for path in entries if path.is_file()]
        yield from (path for path in files if is_gguf(path))
        yield from (path for path in files if path.name.lower().endswith(".onnx"))
        if (
            any(path.name.endswith((".safetensors", ".bin", ".pt")) for path in files)
            and folder / "config.json" in files
        ):
            yield folder
        elif folder / "openvino_model.xml" in files:
            yield folder / "openvino_model.xml"
        if depth > 1:
            for below in entries:
                if below.is_dir() and self.is_within(below) and below.name[0] != ".":
                    yield from self._models(below, depth - 1)


def snapshots(walk: Walk, folder: Path, prefix: str) -> Iterator[Found]:
    """The models of a folder in the layout of the Hugging Face cache: PREFIXorg--name/snapshots/REVISION/files.

    Of several revisions the one that refs/main names, else the newest (Hugging Face, "Hub local cache").
    """
    for repository in walk.folders(folder):
        parts = repository.name.removeprefix(prefix).split("--")
        if not repository.name.startswith(prefix) or len(parts) < 2:
            continue
        revisions = walk.folders(repository / "snapshots")
        revisions.sort(key=lambda path: (path.name == _main(repository), path.stat().st_mtime_ns), reverse=True)
        if revisions:
            yield from walk.models("/".join((parts[0], "--".join(parts[1:]))), revisions[0])


def _main(repository: Path) -> str:
    text = first_text(repository / "refs" / "main")
    return text if _COMMIT.fullmatch(text) else ""


def first_text(path: Path, max_bytes: int = 4096) -> str:
    """The text that a small file begins with; empty for what cannot be read, or is no plain file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.pread(descriptor, max_bytes, 0).decode(errors="replace").strip()
    finally:
        os.close(descriptor)


def is_gguf(path: Path) -> bool:
    """Whether a file is called like a GGUF model, or the first part of one, and not like a projector."""
    name = path.name.lower()
    return name.endswith(".gguf") and "mmproj" not in name and beside.part_number(name) <= 1
