"""Brings what earlier versions left in the clear into the vault; killed at any moment, it goes on at the next start.

For the only process that has the state folder open for writing.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing
from pathlib import Path

from catena.core.errors import BusyError, ConflictError, ResourceError
from catena.reach.archive import SEALED, Table, seal_rows
from catena.reach.vault.vault import Vault
from catena.store.database import Database
from catena.watch.durable import sync

_SCRUBBED = "contents are sealed"
_log = logging.getLogger(__name__)
_BLOCK = bytes(1 << 20)


def seal_answers(path: Path, vault: Vault) -> None:
    """Have the kept answers at `path` sealed: a whole new file takes the place of the old one, which is overwritten.

    Does nothing where they are sealed already, or there are none. Raises ConflictError while another process has the
    file open, ResourceError.
    """
    draft = path.with_name(f"{path.name}.sealing")
    for left in path.parent.glob(f"{draft.name}*"):
        left.unlink()
    if not path.exists():
        return
    with closing(Database(path)) as old:
        if old.read("SELECT 1 FROM migrations WHERE name = ?", (SEALED,)):
            return
        has_answers = old.read("SELECT 1 FROM sqlite_schema WHERE name = 'answers'")
        with closing(Database(draft)) as new:
            if has_answers:
                seal_rows(old, new, vault)
            new.read("PRAGMA wal_checkpoint(TRUNCATE)")
        old.read("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in (f"{path.name}-wal", f"{draft.name}-wal"):
        if path.with_name(name).exists():
            raise ConflictError(f"{path.name} is in use by another process", hint="stop it, and start again")
    replace(draft, path)


def replace(draft: Path, path: Path) -> None:
    """Put `draft` in the place of `path`, and write zeros over what stood there. Raises ResourceError."""
    try:
        with path.open("r+b") as old:
            sync(draft)
            draft.replace(path)
            sync(path.parent)
            overwrite(old.fileno())
    except OSError as error:
        raise ResourceError(
            f"{path.name} cannot be sealed: {error.strerror}", hint="free space on the disk that holds CATENA_HOME"
        ) from error


def scrub(table: Table) -> None:
    """Write a database anew, so that nothing of what was deleted is left in it or its journal.

    Raises BusyError while another process uses it, ResourceError.
    """
    table.read("PRAGMA temp_store = MEMORY")  # what is written anew must not lie in a temporary file
    table.read("VACUUM")
    table.read("PRAGMA wal_checkpoint(TRUNCATE)")


def scrub_once(table: Table) -> None:
    """Once in the life of a database whose contents were sealed: nothing from before that is left in its free pages."""
    if table.read("SELECT 1 FROM migrations WHERE name = ?", (_SCRUBBED,)):
        return
    try:
        scrub(table)
        table.migrate(_SCRUBBED)
    except (BusyError, ResourceError) as error:
        _log.warning("the database is written anew at the next start: %s", error)


def overwrite(descriptor: int) -> None:
    """Write zeros over a whole file, durably. Raises OSError."""
    left, at = os.fstat(descriptor).st_size, 0
    while left > 0:
        written = os.pwrite(descriptor, _BLOCK[: min(left, len(_BLOCK))], at)
        left, at = left - written, at + written
    os.fsync(descriptor)
