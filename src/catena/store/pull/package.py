"""Packages: the program of the user's own that fetches one is watched, its file hashed, and what is wanted unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from catena.core.clock import monotonic_s
from catena.core.errors import ExpiredError, IntegrityError, NetworkError, TooLargeError
from catena.core.settings import StoreSettings
from catena.core.units import duration_text
from catena.store import seals
from catena.store.blobs import open_regular
from catena.store.offers import InnerFile, Offer
from catena.store.pull.staging import Staged, stage
from catena.store.rows import Progress, Report
from catena.watch.durable import sync

PIECE_BYTES = 1 << 20
MAX_SAID_CHARS = 400
_LOOK_S = 0.1
_ENDING_S = 5.0


class Source(Protocol):
    """The plain bytes of one file of a package."""

    def read(self, size: int, /) -> bytes: ...


def run(
    command: list[str],
    incoming: Path,
    environ: Mapping[str, str],
    timeout_s: float,
    look: Callable[[], None],
    *,
    nearer: str,
    cwd: Path | None = None,
) -> tuple[int, str]:
    """The exit code of `command` and what it said. It has to end itself when its standard input closes.

    Meanwhile `look` is called again and again. The last word of `command` names the package, `nearer` where a mirror
    is set. Raises ExpiredError after `timeout_s`, and what `look` raises.
    """
    log, until_s = incoming / "log", monotonic_s() + timeout_s
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter, arguments checked by the catalogue
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **environ, "NO_COLOR": "1"},
        )
        assert child.stdin is not None
        try:
            while child.poll() is None:
                if monotonic_s() > until_s:
                    raise ExpiredError(
                        f"{command[-1]} was not downloaded within {duration_text(timeout_s)}",
                        hint=f"set store.pull_timeout_s higher, or name a nearer {nearer}",
                    )
                look()
                try:
                    child.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            child.stdin.close()
            try:
                child.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return child.returncode, log.read_text(encoding="utf-8", errors="replace")


def keep(incoming: Path, kept: Path, program: str, requirement: str) -> Path:
    """Move the one file that `program` left in `incoming`, of the ending of `kept`, there. Raises NetworkError."""
    found = sorted(incoming.glob(f"*{kept.suffix}"))
    if len(found) != 1:
        raise NetworkError(f"{program} said it downloaded {requirement}, but left {len(found)} files")
    sync(found[0])
    found[0].replace(kept)
    shutil.rmtree(incoming, ignore_errors=True)
    return kept


def digest(package: Path, offer: Offer, settings: StoreSettings, report: Report) -> tuple[str, int]:
    """The digest of a package as it came, and its size in bytes. Raises TooLargeError."""
    descriptor = open_regular(package)
    try:
        size = os.fstat(descriptor).st_size
        if size > settings.max_file_bytes:
            raise TooLargeError(f"{offer.requirement} has {size} bytes", hint="see store.max_file_bytes")
        found = seals.hash_file(descriptor, lambda done: report(Progress("read", offer.requirement, done, size)))
    finally:
        os.close(descriptor)
    return found, size


def unpack(source: Source, num_bytes: int, file: InnerFile, draft: Path, report: Report, origin: str) -> Staged:
    """Write one file of a package, of which the package says that it has `num_bytes`.

    Raises IntegrityError if it is not the pinned one; `origin` is then the one to ask.
    """
    if num_bytes != file.size_bytes:
        raise IntegrityError(f"{file.name} has {num_bytes} bytes in the package instead of {file.size_bytes}")
    total, done = hashlib.sha256(), 0
    with draft.open("wb") as target:
        # An archive may hold more than it says: one byte too many is enough to stop.
        while piece := source.read(min(PIECE_BYTES, file.size_bytes - done + 1)):
            done += len(piece)
            if done > file.size_bytes:
                raise IntegrityError(f"{file.name} unpacks to more than {file.size_bytes} bytes")
            total.update(piece)
            target.write(piece)
            report(Progress("store", file.name, done, file.size_bytes))
    if f"sha256:{total.hexdigest()}" != file.digest:
        raise IntegrityError(
            f"{file.name} in the package does not match its pinned digest",
            hint=f"do not use this package; ask whoever runs the {origin}",
        )
    draft.chmod(0o400)
    return stage(file.role, file.name, draft, file.digest, "copied")
