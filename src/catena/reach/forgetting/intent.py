"""What is being forgotten, kept sealed until it is, so that a kill cannot leave it half done."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from catena.core.errors import IntegrityError, NotFoundError, ResourceError
from catena.reach.forgetting.target import Target
from catena.reach.vault.vault import HEAD_BYTES, Vault
from catena.watch.durable import sync

NAME = "forgetting"
_KIND = "forgetting"


class Intent:
    """The one file `forgetting` of a state folder."""

    def __init__(self, home: Path, vault: Vault) -> None:
        self._path = home / NAME
        self._vault = vault

    def read(self) -> Target | None:
        """What was begun and not ended; None for nothing. Raises IntegrityError for a file that was changed."""
        try:
            sealed = self._path.read_bytes()
            return msgspec.json.decode(self._vault.open_sealed(_KIND, NAME, sealed), type=Target)
        except FileNotFoundError:
            return None
        except NotFoundError:  # ended but for the file
            self._path.unlink(missing_ok=True)
            return None
        except msgspec.DecodeError:
            raise IntegrityError(
                "the file `forgetting` is of another version", hint="delete it, and forget anew"
            ) from None

    def write(self, target: Target) -> None:
        """Begin: durable when this returns. Raises ResourceError."""
        draft = self._path.with_name(f".{NAME}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._vault.seal(_KIND, NAME, msgspec.json.encode(target)))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            sync(self._path.parent)
        except OSError as error:
            raise ResourceError(
                f"what is to be forgotten cannot be noted: {error.strerror}", hint="free space below CATENA_HOME"
            ) from None

    def end(self) -> None:
        """Everything is forgotten: first the key of the note, then the note."""
        try:
            with self._path.open("rb") as file:
                self._vault.forget([file.read(HEAD_BYTES)])
        except FileNotFoundError:
            return
        self._path.unlink(missing_ok=True)
