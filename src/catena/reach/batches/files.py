"""Files that callers leave here, each for its own key alone: content on the disk, names and times in the database.

In a vault both content and name are sealed, each bound to the file's id, and their keys go first. A file is whole and
durable before its row is; a row goes before its file does. What a kill leaves between the two is swept away at the
next start. Every method blocks.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import IntegrityError, NotFoundError, ResourceError, TooLargeError
from catena.core.ids import new_id
from catena.core.units import bytes_text
from catena.reach.sealing import replace
from catena.reach.vault import SealedReader, SealedWriter, Vault, bind, slot_of
from catena.watch.durable import sync

MIGRATION = (
    "files",
    "CREATE TABLE files (id TEXT PRIMARY KEY, owner TEXT NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,"
    " size_bytes INTEGER NOT NULL, made_at_ns INTEGER NOT NULL, ends_at_ns INTEGER) STRICT",
    "CREATE INDEX files_by_owner ON files (owner, made_at_ns)",
)
KIND, NAME_KIND = "file", "file name"
# Before a name that is sealed: nobody can call a file so, since names have no line ends.
_SEALED = "\n"
_PIECE_BYTES = 1 << 20
_COLUMNS = "id, owner, filename, purpose, size_bytes, made_at_ns, ends_at_ns"


class Table(Protocol):
    """The SQL database that rows are kept in."""

    def migrate(self, name: str, *statements: str) -> None: ...

    def read(self, statement: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]: ...

    def write(self, statement: str, values: Sequence[Any] = (), /) -> int: ...


class StoredFile(Struct, frozen=True):
    """What is known of a file but its content. Times in Unix nanoseconds; `ends_at_ns` None: it stays."""

    id: str
    owner: str
    filename: str
    purpose: str
    size_bytes: int
    made_at_ns: int
    ends_at_ns: int | None


class Files:
    """The files of this machine. Each owner may have `max_files` of them with `max_bytes` in all."""

    def __init__(
        self,
        table: Table,
        folder: Path,
        *,
        max_files: int,
        max_bytes: int,
        vault: Vault | None = None,
        clock_ns: Callable[[], int] = now_ns,
    ) -> None:
        table.migrate(*MIGRATION)
        self._vault = vault
        self._table = table
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._clock_ns = clock_ns
        self._adopting = threading.Lock()

    def recover(self) -> None:
        """At the start of the only process that writes, before it takes files: drafts and files that no row names are
        deleted, and what lies in the clear is sealed."""
        for draft in self.drafts.iterdir() if self.drafts.is_dir() else ():
            self.discard(draft)
        shutil.rmtree(self.drafts, ignore_errors=True)
        named = dict(self._table.read("SELECT id, filename FROM files"))
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name not in named:
                self.discard(path)
        if self._vault is not None:
            for id, filename in named.items():
                if not filename.startswith(_SEALED):
                    self._adopt_plain(id, filename, self._vault)

    @property
    def drafts(self) -> Path:
        """The folder for files on their way in; on the same disk as those that are in."""
        return self._folder / "drafts"

    def make_folder(self) -> Path:
        """The folder of drafts, made if it is not there."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.drafts.mkdir(mode=0o700, exist_ok=True)
        return self.drafts

    def create(self, path: Path) -> BinaryIO | SealedWriter:
        """A new draft at `path`, for its owner alone, sealed as it is written. Raises OSError, ResourceError."""
        if self._vault is not None:
            return SealedWriter(path, self._vault)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def draft_bytes(self, path: Path) -> bytes:
        """All of a whole draft. Raises OSError, IntegrityError."""
        if self._vault is None:
            return path.read_bytes()
        bind(path, self._vault, KIND, path.name)
        with SealedReader(path, self._vault, KIND, path.name) as source:
            return source.readall()

    def discard(self, path: Path) -> None:
        """Delete a draft, or a file that is none: first its key. Nothing there: nothing happens. Raises OSError."""
        if path.is_file():
            slot = slot_of(path) if self._vault is not None else None
            if self._vault is not None and slot is not None:
                self._vault.burn([slot], is_durable=False)
            path.unlink(missing_ok=True)

    def check_room(self, owner: str, size_bytes: int = 0) -> None:
        """Raise TooLargeError unless `owner` may have one more file of this size."""
        [(count, total)] = self._table.read(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM files WHERE owner = ?", (owner,)
        )
        if count >= self._max_files:
            raise TooLargeError(f"this key has {count} files, which is the limit", hint="delete some of them")
        if total + size_bytes > self._max_bytes:
            raise TooLargeError(
                f"the files of this key take {bytes_text(total)} of {bytes_text(self._max_bytes)}, and this one needs "
                f"{bytes_text(size_bytes)}",
                hint="delete some of them",
            )

    def adopt(self, draft: Path, owner: str, filename: str, purpose: str, keep_s: int | None) -> StoredFile:
        """Take a whole draft in; durable when this returns. Raises TooLargeError, ResourceError."""
        id = new_file_id()
        with _told():
            size_bytes = draft.stat().st_size if self._vault is None else bind(draft, self._vault, KIND, id)
            sync(draft)
        with self._adopting:  # so that two at once cannot pass the bounds together
            self.check_room(owner, size_bytes)
            file = self.named(owner, filename, purpose, keep_s, size_bytes=size_bytes, id=id)
            self.move(draft, file)
            self.list_(file)
        return file

    def named(
        self, owner: str, filename: str, purpose: str, keep_s: int | None, *, size_bytes: int, id: str = ""
    ) -> StoredFile:
        """What a file would be called, taken in now."""
        made_at_ns = self._clock_ns()
        ends_at_ns = None if keep_s is None else made_at_ns + keep_s * 1_000_000_000
        return StoredFile(id or new_file_id(), owner, filename, purpose, size_bytes, made_at_ns, ends_at_ns)

    def move(self, draft: Path, file: StoredFile) -> None:
        """Put the content of `file` in its place, durably. Raises ResourceError."""
        self.make_folder()
        with _told():
            sync(draft)
            draft.replace(self._folder / file.id)
            sync(self._folder)

    def collect(self, id: str, written: Path, lines: Iterable[bytes]) -> tuple[Path, int]:
        """A draft of file `id` made of the lines of a journal's file, and its size in the clear. Raises ResourceError.

        Without a vault it is that file itself.
        """
        with _told():
            if self._vault is None:
                return written, written.stat().st_size
            draft = self.make_folder() / id
            self.discard(draft)
            with SealedWriter(draft, self._vault) as target:
                for line in lines:
                    target.write(line + b"\n")
            return draft, bind(draft, self._vault, KIND, id)

    def list_(self, file: StoredFile) -> None:
        """Let its owner see the file; again does nothing."""
        values = (
            file.id,
            file.owner,
            self._sealed_name(file.id, file.filename),
            file.purpose,
            file.size_bytes,
            file.made_at_ns,
            file.ends_at_ns,
        )
        self._table.write("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def find(self, id: str, owner: str) -> StoredFile:
        """The file `id` of `owner`. Raises NotFoundError, also when it is another's, or past its time."""
        rows = self._table.read(f"SELECT {_COLUMNS} FROM files WHERE id = ? AND owner = ?", (id, owner))  # noqa: S608
        file = self._file(rows[0]) if rows else None
        if file is None or (file.ends_at_ns is not None and file.ends_at_ns <= self._clock_ns()):
            raise NotFoundError("there is no such file", hint="it may have been deleted, or be past its time")
        return file

    def path(self, id: str) -> Path:
        """Where the content lies of the file with this id, which must be one of ours."""
        return self._folder / id

    def open(self, file: StoredFile, start: int = 0) -> BinaryIO:
        """The content, from byte `start` on. Raises IntegrityError when it is not what was taken in."""
        try:
            source = self.content(file.id)
        except (FileNotFoundError, NotFoundError):
            raise IntegrityError(f"the content of {file.id} is gone", hint="delete it and leave it anew") from None
        if source.seek(0, os.SEEK_END) != file.size_bytes:
            source.close()
            raise IntegrityError(f"the content of {file.id} has another size now", hint="delete it and leave it anew")
        source.seek(start)
        return source

    def content(self, id: str) -> BinaryIO:
        """The content of the file with this id, from its start on. Raises OSError, IntegrityError, NotFoundError."""
        if self._vault is None:
            return self.path(id).open("rb")
        return io.BufferedReader(SealedReader(self.path(id), self._vault, KIND, id), 64 << 10)

    def each(self) -> list[StoredFile]:
        """Every file of every owner."""
        return [self._file(row) for row in self._table.read(f"SELECT {_COLUMNS} FROM files")]  # noqa: S608

    def burn(self, ids: Iterable[str]) -> None:
        """Destroy the keys of the files with these ids and of their names, durably."""
        if self._vault is not None:
            found: list[int] = []
            for id in ids:
                names = self._table.read("SELECT filename FROM files WHERE id = ?", (id,))
                self._vault.forget((_sealed(name) for (name,) in names), is_durable=False)
                with suppress(FileNotFoundError):
                    found += [slot for slot in (slot_of(self.path(id)),) if slot is not None]
            self._vault.burn(found)

    def rows(
        self, owner: str, *, purpose: str | None, after: str | None, limit: int, is_rising: bool
    ) -> list[StoredFile]:
        """Up to `limit` files of `owner` in the order of their making, those behind file `after`. NotFoundError."""
        conditions, values = ["owner = ?", "coalesce(ends_at_ns, ?) >= ?"], [owner, *(self._clock_ns(),) * 2]
        if purpose is not None:
            conditions.append("purpose = ?")
            values.append(purpose)
        if after is not None:
            last = self.find(after, owner)
            conditions.append(f"(made_at_ns, id) {'>' if is_rising else '<'} (?, ?)")
            values += [last.made_at_ns, last.id]
        order = "ASC" if is_rising else "DESC"
        found = self._table.read(
            f"SELECT {_COLUMNS} FROM files WHERE {' AND '.join(conditions)}"  # noqa: S608 - our own texts
            f" ORDER BY made_at_ns {order}, id {order} LIMIT ?",
            (*values, limit),
        )
        return [self._file(row) for row in found]

    def remove(self, id: str, owner: str) -> None:
        """Delete a file. Raises NotFoundError as `find` does."""
        self._delete(self.find(id, owner))

    def sweep(self, in_use: frozenset[str] = frozenset()) -> int:
        """Delete what is past its time, but for what is in use; the number of files deleted."""
        rows = self._table.read(
            f"SELECT {_COLUMNS} FROM files WHERE ends_at_ns <= ?",  # noqa: S608 - our own texts
            (self._clock_ns(),),
        )
        ended = [file for file in map(self._file, rows) if file.id not in in_use]
        for file in ended:
            self._delete(file)
        return len(ended)

    def drop(self, ids: Iterable[str]) -> None:
        """Delete the files with these ids, whoever they are of."""
        ids = list(ids)
        self.burn(ids)
        for id in ids:
            self._table.write("DELETE FROM files WHERE id = ?", (id,))
            self.path(id).unlink(missing_ok=True)

    def _delete(self, file: StoredFile) -> None:
        self.drop([file.id])

    def _file(self, row: tuple[Any, ...]) -> StoredFile:
        """A file as its row tells it; a name that was forgotten or changed is not told."""
        file = StoredFile(*row)
        if self._vault is None or not file.filename.startswith(_SEALED):
            return file
        try:
            name = self._vault.open_sealed(NAME_KIND, file.id, _sealed(file.filename)).decode()
        except (NotFoundError, IntegrityError):
            name = ""
        return msgspec.structs.replace(file, filename=name)

    def _sealed_name(self, id: str, name: str) -> str:
        if self._vault is None:
            return name
        return _SEALED + base64.b64encode(self._vault.seal(NAME_KIND, id, name.encode())).decode()

    def _adopt_plain(self, id: str, filename: str, vault: Vault) -> None:
        """Seal a file from before the vault: content first, whose name says last that it is done."""
        path, draft = self.path(id), self.make_folder() / id
        if path.exists():
            try:
                SealedReader(path, vault, KIND, id).close()
            except (IntegrityError, NotFoundError):
                with path.open("rb") as source, SealedWriter(draft, vault) as target:
                    shutil.copyfileobj(source, target, _PIECE_BYTES)
                bind(draft, vault, KIND, id)
                replace(draft, path)
        self._table.write("UPDATE files SET filename = ? WHERE id = ?", (self._sealed_name(id, filename), id))


def _sealed(name: str) -> bytes:
    try:
        return base64.b64decode(name.removeprefix(_SEALED))
    except binascii.Error:
        return b""


def new_file_id() -> str:
    """An id as this API's clients know them."""
    return new_id("file").replace("_", "-", 1)


@contextmanager
def _told() -> Generator[None]:
    """Say in Catena's words what the disk complains of."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"the file cannot be stored: {error.strerror}", hint="free space on the disk that holds CATENA_HOME"
        ) from error
