"""What engines keep of prompts between two loads of a model: private folders by model, which go when the model goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from catena.core.errors import IntegrityError, ResourceError
from catena.core.ids import is_digest


class Prompts:
    """The folder `prompts` of a state folder: one of mode 0700 for each model, called by the model's digest.

    An engine writes only into a folder that is there: one that went with its model while a session was open is not
    made again by that session.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "prompts"

    def open(self, digest: str) -> Path:
        """The model's folder, made if it is not there. Raises IntegrityError for what is no digest, ResourceError."""
        folder = self._folder(digest)
        try:
            for each in (self.root, folder):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                each.chmod(0o700)
        except OSError as error:
            raise ResourceError(
                f"{folder} cannot be made: {error.strerror}", hint="make room, or set run.kept_prompts_bytes to 0"
            ) from None
        return folder

    def forget(self, digest: str) -> None:
        """Delete what is kept for a model."""
        shutil.rmtree(self._folder(digest), ignore_errors=True)

    def clear(self) -> None:
        """Delete what is kept for all models."""
        shutil.rmtree(self.root, ignore_errors=True)

    def retain(self, digests: Iterable[str]) -> None:
        """Delete what is kept for other models than these."""
        named = {self._folder(digest).name for digest in digests}
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.name not in named:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, digest: str) -> Path:
        if not is_digest(digest):
            raise IntegrityError("a model is named by something that is not a SHA-256 digest")
        return self.root / digest.removeprefix("sha256:")
