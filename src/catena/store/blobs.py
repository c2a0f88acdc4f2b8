"""Files by digest, and the drafts they grow from: durable before they are named, safe with several processes."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Generator, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from catena.core.clock import monotonic_s, now_ns
from catena.core.errors import BusyError, CatenaError, IntegrityError, ResourceError
from catena.core.ids import is_digest
from catena.core.units import bytes_text
from catena.watch.durable import sync

GUARD_S = 60.0
_POLL_S = 0.05
# After these errors the next pull of the same source goes on with what there is.
INTERRUPTIONS = frozenset({"network", "cancelled", "expired"})
# A draft folder with a file of this name is kept so long, because what is in it was long in coming.
RESUMABLE, RESUMABLE_S = "resumable", 7 * 24 * 3600.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Blobs:
    """The folder `blobs`: `sha256/` holds files by digest, `drafts/` what is not whole yet, one folder per source."""

    def __init__(self, home: Path) -> None:
        self.root = home / "blobs"
        self._files = self.root / "sha256"
        self._drafts = self.root / "drafts"
        with told(self.root):
            is_new = not self._drafts.exists()
            for folder in (self.root, self._files, self._drafts):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_new:
                sync(self.root)
                sync(home)

    def path(self, digest: str) -> Path:
        """Where the file with this digest is, or would be. Raises IntegrityError for what is no digest."""
        if not is_digest(digest):
            raise IntegrityError("a file is named by something that is not a SHA-256 digest")
        letters = digest.removeprefix("sha256:")
        return self._files / letters[:2] / letters

    def place(self, draft: Path, digest: str) -> None:
        """Give a finished draft its name for good, in place of what may be there. Durable when it returns."""
        path = self.path(digest)
        with told(self.root):
            sync(draft)
            is_new_folder = not path.parent.exists()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            draft.replace(path)
            sync(path.parent)
            if is_new_folder:
                sync(self._files)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        """Digest and path of every file present; anything else in the folder is not ours and is passed over."""
        for path in sorted(self._files.glob("??/*")):
            digest = f"sha256:{path.name}"
            if is_digest(digest) and path == self.path(digest):
                yield digest, path

    @contextmanager
    def guard(self, *, is_alone: bool) -> Generator[None]:
        """Keep what is placed and what is removed apart: placing shares the guard, removing has it alone.

        Raises BusyError after GUARD_S.
        """
        descriptor = _lock(self.root / "lock", fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH, GUARD_S)
        try:
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def drafting(self, key: str, wait_s: float, interruptions: Set[str] = INTERRUPTIONS) -> Generator[Path]:
        """The drafts of one source, for one process at a time; `key` is hexadecimal.

        What is in the folder stays after a kill, an interrupt or a lost connection, so that the next pull of this
        source goes on from there; after any error whose code is not among `interruptions`, and after success, it is
        removed. Raises BusyError if another process works on the same source for longer than `wait_s`.
        """
        folder = self._drafts / key
        descriptor = -1
        with told(self.root):
            while descriptor < 0:
                with suppress(FileExistsError):  # also when it is removed just after it was found to exist
                    folder.mkdir(mode=0o700)
                descriptor = _lock(folder / "lock", fcntl.LOCK_EX, wait_s)
        try:
            with told(self.root):
                yield folder
        except CatenaError as error:
            if error.code not in interruptions:
                clear(folder)
            raise
        else:
            clear(folder)
        finally:
            os.close(descriptor)

    def abandoned(self) -> Iterator[Path]:
        """The draft folders that no living process works on, each locked while it is yielded; those that a recent pull
        marked as resumable are passed over."""
        for folder in sorted(path for path in self._drafts.iterdir() if path.is_dir()):
            if _is_resumable(folder):
                continue
            try:
                descriptor = _lock(folder / "lock", fcntl.LOCK_EX, 0)
            except BusyError:
                continue
            if descriptor >= 0:
                try:
                    yield folder
                finally:
                    os.close(descriptor)


def _is_resumable(folder: Path) -> bool:
    with suppress(OSError):
        return now_ns() / 1e9 - (folder / RESUMABLE).stat().st_mtime < RESUMABLE_S
    return False


def clear(folder: Path) -> None:
    """Remove a draft folder whose lock is held: the lock goes last, so that nobody else is in while files go."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lock":
            path.unlink(missing_ok=True)
    (folder / "lock").unlink(missing_ok=True)
    with suppress(OSError):  # somebody may have come in already
        folder.rmdir()


def open_regular(path: Path) -> int:
    """`path` open for reading. Raises OSError, or IntegrityError if it is not a plain file (a link, pipe, device)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{path.name} is not a plain file")
    return descriptor


@contextmanager
def told(folder: Path) -> Generator[None]:
    """Say in Catena's words why the disk under `folder` refuses."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise ResourceError(
                f"the store cannot be read or written: {error.strerror or error}",
                hint="make CATENA_HOME readable and writable for the user that runs catena",
            ) from error
        free_bytes = shutil.disk_usage(folder).free
        raise ResourceError(
            f"the disk is full: {error.strerror}; {bytes_text(free_bytes)} free",
            hint="`catena gc` removes what no model needs; or give CATENA_HOME a larger disk",
        ) from error


def _lock(path: Path, mode: int, wait_s: float) -> int:
    """`path` locked, made if it is not there; -1 if it, or its folder, was removed meanwhile. Raises BusyError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return -1
    until_s = monotonic_s() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if monotonic_s() >= until_s:
                os.close(descriptor)
                raise BusyError(
                    "another process is at work on the same files", retry_after_s=10, hint="wait until it has ended"
                ) from None
            time.sleep(_POLL_S)
    with suppress(FileNotFoundError):
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    os.close(descriptor)
    return -1
