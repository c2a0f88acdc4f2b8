"""Models of several files as folders: each file under its own name, as a hard link to the file that lies by digest.

Engines that are given one path find the other files beside it: parts of a GGUF, external data of ONNX, the .bin of an
OpenVINO model, everything of a safetensors model. A link takes no space and is the same file, so its seal holds.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Set
from pathlib import Path

from catena.core.errors import IntegrityError
from catena.core.manifest import Manifest
from catena.store import beside, formats
from catena.store.blobs import Blobs, told


class Folders:
    """The folder `folders` beside the files, one folder per manifest digest in it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._root = blobs.root / "folders"

    def lay(self, manifest: Manifest, digest: str) -> dict[str, Path]:
        """The path of each file of the model by its name, links laid anew where they are not what they should be.

        Raises IntegrityError for a name that leads elsewhere, ResourceError for a disk without hard links.
        """
        folder = self._root / digest.removeprefix("sha256:")
        paths = {entry.name: folder / entry.name for entry in manifest.files}
        for entry in manifest.files:
            if not beside.is_within(entry.name):
                raise IntegrityError(f"a file of {manifest.name} has a name that leads elsewhere")
            self._link(self._blobs.path(entry.digest), paths[entry.name])
        return paths

    def abandoned(self, needed: Set[str]) -> Iterator[Path]:
        """The folders of manifests other than the `needed` digests."""
        if self._root.is_dir():
            kept = {digest.removeprefix("sha256:") for digest in needed}
            yield from (path for path in sorted(self._root.iterdir()) if path.name not in kept)

    def _link(self, blob: Path, path: Path) -> None:
        try:
            if os.path.samestat(path.lstat(), blob.lstat()):
                return
        except FileNotFoundError:
            if not blob.exists():
                return  # the cheap check will say so
        with told(self._blobs.root):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{secrets.token_hex(8)}")
            os.link(blob, draft, follow_symlinks=False)
            try:
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)  # a rename between links to one file does nothing


def is_needed(manifest: Manifest) -> bool:
    """Whether those who load the model look for its files beside one another."""
    num_weights = sum(entry.role == "weights" for entry in manifest.files)
    return num_weights > 1 or (manifest.format in formats.names() and formats.find(manifest.format).NEEDS_FOLDER)


def remove(folder: Path) -> None:
    """Take a folder of links away."""
    shutil.rmtree(folder, ignore_errors=True)
