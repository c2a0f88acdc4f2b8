"""Keeps the exact bytes that left, one sealed file for each record, where the settings want that.

Each is an item of the vault under the name of its record, so that forgetting it makes every copy unreadable; its digest
is in the record. Credentials are not among the bytes that are kept.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path

import anyio.to_thread

from catena.core.errors import AuditError, CatenaError, IntegrityError, NotFoundError
from catena.core.ids import is_id
from catena.core.messages import Egress
from catena.reach.vault.vault import HEAD_BYTES, Vault
from catena.watch.durable import sync_data

FOLDER = "egress"
KIND = "egress"


class Shelf:
    """The files below `home`/egress. Made with the first of them."""

    def __init__(self, home: Path, vault: Vault) -> None:
        self._home, self._folder = home, home / FOLDER
        self._vault = vault

    async def keep(self, record: Egress, shown: bytes, /) -> None:
        """Keep `shown`, of which `record` holds the digest; on disk when this returns. Raises AuditError."""
        try:
            await anyio.to_thread.run_sync(self._write, record, shown)
        except (OSError, CatenaError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else error.message
            raise AuditError(
                f"what is about to leave cannot be kept: {why}",
                hint='no copy, no request: free space below CATENA_HOME, or set reach.keep_egress = "digest"',
            ) from None

    def read(self, record: Egress) -> bytes:
        """The bytes of `record`. Raises NotFoundError if they were not kept or were forgotten, IntegrityError if they
        were changed."""
        path = path_of(self._home, record)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(
                f"the bytes of {record.receipt} number {record.serial} were not kept, only their digest",
                hint='reach.keep_egress = "bytes" keeps them from then on',
            ) from None
        except OSError as error:
            raise IntegrityError(f"what was kept of {record.receipt} cannot be read: {error.strerror}") from None
        try:
            return self._vault.open_sealed(KIND, path.name, data)
        except IntegrityError:
            raise IntegrityError(
                f"what was kept of {record.receipt} number {record.serial} was changed, or is of another machine"
            ) from None

    def each(self) -> Generator[tuple[Path, bytes | None]]:
        """Every file with its bytes, None where its key was destroyed; those that were changed are passed over."""
        for path in sorted(self._folder.glob("*/*")) if self._folder.is_dir() else ():
            try:
                yield path, self._vault.open_sealed(KIND, path.name, path.read_bytes())
            except NotFoundError:
                yield path, None
            except (IntegrityError, OSError):
                continue

    def burn(self, paths: Iterable[Path]) -> None:
        """Destroy the keys of these files, durably."""
        heads: list[bytes] = []
        for path in paths:
            if path.is_file():
                with path.open("rb") as file:
                    heads.append(file.read(HEAD_BYTES))
        self._vault.forget(heads)

    def drop(self, paths: Iterable[Path]) -> None:
        """Delete these files, and first their keys."""
        paths = list(paths)
        self.burn(paths)
        for path in paths:
            path.unlink(missing_ok=True)

    def _write(self, record: Egress, shown: bytes) -> None:
        path = path_of(self._home, record)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = self._vault.seal(KIND, path.name, shown)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            view = memoryview(sealed)
            while view:
                view = view[os.write(descriptor, view) :]
            sync_data(descriptor)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def path_of(home: Path, record: Egress) -> Path:
    """Where the bytes of `record` lie if they were kept. Files of about nine hours share a folder: an id begins with
    its time. Raises IntegrityError for a receipt that is none."""
    if not is_id(record.receipt, "rcpt"):
        raise IntegrityError("a record of what left has a receipt of another form")
    return home / FOLDER / record.receipt[5:10] / f"{record.receipt}.{record.serial}"
