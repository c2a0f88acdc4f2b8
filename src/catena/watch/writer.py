"""The one writer of the audit log's files: locks, repairs, commits, turns over, publishes; for one thread."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from catena.core.clock import now_ns
from catena.core.errors import AuditError, CatenaError, ConflictError, IntegrityError
from catena.core.messages import Closed, Egress
from catena.watch import journal, layout, merkle, notes, pairing, tiles
from catena.watch.durable import sync
from catena.watch.durable import sync_data as _sync
from catena.watch.journal import Head
from catena.watch.notes import Signs
from catena.watch.pairing import Record
from catena.watch.reader import View
from catena.watch.tiles import WIDTH
from catena.watch.tree import Tree
from catena.watch.verifier import leaf_hash

TURN_OVER_RECORDS = 4096


class Writer:
    """Holds the lock from `open` to `close`. After each call `view` is what is durable, whatever went wrong."""

    def __init__(self, folder: Path, signer: Signs, lock: int) -> None:
        self._folder = folder
        self._signer = signer
        self._lock = lock
        self._file = -1
        self._end = 0
        self._is_suspect = False  # the page cache may differ from the disk, or bytes beyond `_end` may be there
        self._is_named = True  # the journal's name is durable
        self._open: dict[str, int] = {}
        self._seal = layout.FIRST_SEAL  # over all final files before the journal
        self.tree = Tree(folder)
        self.view = View(0, [], 0, "", 0)
        self.num_repaired_bytes = 0
        self.num_syncs = 0

    @classmethod
    def open(cls, folder: Path, signer: Signs) -> Writer:
        """Lock the log, cut a torn tail, and close as `lost` what a dead process left open.

        Raises ConflictError if another writer holds it, IntegrityError if acknowledged records are missing or changed,
        AuditError if the folder cannot be written.
        """
        writer = cls(folder, signer, _lock(folder))
        try:
            writer._recover()
            lost = [Closed(receipt, now_ns(), index, "lost") for receipt, index in writer._open.items()]
            if lost:
                writer.commit(lost)
        except OSError as error:
            writer.release()
            raise unwritable(error) from None
        except CatenaError:
            writer.release()
            raise
        return writer

    def commit(self, records: Sequence[Record]) -> list[int | CatenaError]:
        """Make `records` durable with one write and one sync; for each its index, or why that one was refused.

        Raises AuditError if the disk refuses; then nothing of the batch is in the log.
        """
        mark, opened, closed = self.tree.mark(), dict[str, int](), set[str]()
        entries: list[bytes] = []
        results: list[int | CatenaError] = []
        for record in records:
            try:
                entry = pairing.encode(record)
                self._admit(record, self.tree.size, opened, closed)
            except CatenaError as error:
                results.append(error)
                continue
            results.append(self.tree.size)
            self.tree.append(leaf_hash(entry))
            entries.append(entry)
        if entries:
            try:
                note = notes.sign_checkpoint(self.tree.size, self.tree.root(), self._signer)
                self._append(journal.batch_frame(tiles.pack(entries), note))
            except OSError as error:
                self.tree.rewind(mark)
                raise unwritable(error) from None
            self._open.update(opened)
            for receipt in closed:
                del self._open[receipt]
            self.view.entries.extend(entries)
            self.view = self.view._replace(size=self.tree.size, note=note, num_open=len(self._open))
        return results

    def turn_over(self) -> None:
        """Write every full tile to its file and start a new journal with the rest. Raises OSError; nothing is lost."""
        base, entries = self.view.base, self.view.entries
        new_base = self.view.size - self.view.size % WIDTH
        if new_base == base:
            return
        files = {tiles.hash_path(row, number): data for row, number, data in self.tree.full_tiles()}
        seal = self._seal
        for number in range(base // WIDTH, new_base // WIDTH):
            start = number * WIDTH - base
            files[tiles.entries_path(number)] = tiles.pack(entries[start : start + WIDTH])
            seal = layout.seal(seal, sha256(b"".join([files[path] for path in layout.completed(number)])).digest())
        for path, data in files.items():
            self._place(path, data)
        self._sync_folders(files)
        kept = entries[new_base - base :]
        self._start_journal(Head(new_base, seal, self._open_at(new_base, kept)), kept)
        self.tree.forget()
        (self._folder / journal.name(base)).unlink(missing_ok=True)

    def publish(self) -> None:
        """Write what a C2SP client reads: full and partial tiles, then `checkpoint`. Raises OSError."""
        self.turn_over()
        path = self._folder / "checkpoint"
        old = max(self._published(), 0)
        paths: list[str] = []
        if width := self.view.size % WIDTH:
            paths.append(tiles.entries_path(self.view.size // WIDTH, width))
            self._place(paths[-1], tiles.pack(self.view.entries))
        for row, number, data in self.tree.partial_tiles():
            paths.append(tiles.hash_path(row, number, len(data) // tiles.HASH_BYTES))
            self._place(paths[-1], data)
        self._sync_folders(paths)
        tiles.write(path, self.view.note.encode())
        sync(self._folder)
        for stale in set(layout.partial_paths(old)) - set(paths):
            (self._folder / stale).unlink(missing_ok=True)

    def close(self) -> None:
        """Publish and release. Raises OSError if it cannot be published; it is released all the same."""
        try:
            if self.view.note and self._published() != self.view.size:
                self.publish()
        finally:
            self.release()

    def release(self) -> None:
        """Give the lock back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _admit(self, record: Record, index: int, opened: dict[str, int], closed: set[str]) -> None:
        """Keep each request to one opening and one closing record, all else in between; raises ConflictError."""
        receipt = record.receipt
        open_index = None if receipt in closed else opened.get(receipt, self._open.get(receipt))
        if isinstance(record, Closed | Egress):
            if open_index is None or open_index != record.opened_index:
                raise ConflictError(f"{receipt} is not open in the audit log at entry {record.opened_index}")
            if isinstance(record, Closed):
                closed.add(receipt)
        elif open_index is not None or receipt in closed:
            raise ConflictError(f"{receipt} is already in the audit log")
        else:
            opened[receipt] = index

    def _append(self, frame: bytes) -> None:
        if self._is_suspect:
            base, entries = self.view.base, self.view.entries
            self._start_journal(Head(base, self._seal, self._open_at(base, entries)), entries)
        if not self._is_named:
            sync(self._folder)
            self._is_named = True
        try:
            _write_at(self._file, frame, self._end)
        except OSError:
            self._is_suspect = not _cut(self._file, self._end)
            raise
        try:
            self.num_syncs += 1
            _sync(self._file)
        except OSError:
            # After a failed sync the page cache may hold what the disk does not: this file is never trusted again.
            self._is_suspect = True
            _cut(self._file, self._end)
            raise
        self._end += len(frame)

    def _start_journal(self, head: Head, entries: Sequence[bytes]) -> None:
        """Write a whole new journal beside the old one and take it into use."""
        data = journal.head_frame(journal.head_note(head, self._signer))
        data += journal.batch_frame(tiles.pack(entries), self.view.note)
        path = self._folder / journal.name(head.base)
        descriptor = tiles.write_open(path, data)
        if self._file >= 0:
            os.close(self._file)
        # From here on the new file is the journal, whether or not its name is durable yet.
        self._file, self._end, self._is_suspect, self._is_named = descriptor, len(data), False, False
        self._seal, self.view = head.seal, self.view._replace(base=head.base, entries=list(entries))
        sync(self._folder)
        self._is_named = True

    def _open_at(self, base: int, entries: Iterable[bytes]) -> dict[str, int]:
        """The requests that were open before `entries`, the tail of the log from `base` on."""
        found = {receipt: index for receipt, index in self._open.items() if index < base}
        for entry in entries:
            receipt, opened_index, _ = pairing.part(entry)
            if opened_index is not None and opened_index < base:
                found[receipt] = opened_index
        return found

    def _recover(self) -> None:
        for draft in self._folder.glob(".*.draft"):
            draft.unlink()
        journals = journal.find(self._folder)
        if not journals:
            if not journal.is_unborn(self._folder):
                raise IntegrityError("the audit log's journal is missing", hint="restore it from a backup")
            self.tree = Tree(self._folder)
            self.view = View(0, [], 0, notes.sign_checkpoint(0, self.tree.root(), self._signer), 0)
            # From its birth on a log has a published checkpoint: one that lost it was tampered with.
            tiles.write(self._folder / "checkpoint", self.view.note.encode())
            self._start_journal(Head(0, self._seal, {}), [])
            return
        base, path = journals[0]
        self._file = os.open(path, os.O_RDWR)
        data = path.read_bytes()
        parsed = journal.parse(data)
        self._replay(base, parsed)
        self._check_published()
        self._end, self.num_repaired_bytes = parsed.end, parsed.num_torn_bytes
        if parsed.num_torn_bytes:
            os.ftruncate(self._file, parsed.end)
            os.fsync(self._file)
        for _, older in journals[1:]:
            older.unlink()

    def _replay(self, base: int, parsed: journal.Parsed) -> None:
        """Rebuild tree and view from a journal; every batch must lead to the root that was signed for it."""
        head = journal.open_head(parsed.head, self._signer.key)
        if head.base != base or base % WIDTH:
            raise IntegrityError(f"the journal's name says it starts at entry {base}, its head says {head.base}")
        self.tree, self._seal, self._open = Tree(self._folder, base), head.seal, dict(head.open)
        entries: list[bytes] = []
        for batch in parsed.batches:
            for entry in tiles.unpack(batch.bundle):
                receipt, opened_index, is_end = pairing.part(entry)
                if opened_index is None:
                    self._open[receipt] = self.tree.size
                elif (self._open.pop if is_end else self._open.get)(receipt, None) != opened_index:
                    raise IntegrityError(f"entry {self.tree.size} of the audit log is of a request that is not open")
                self.tree.append(leaf_hash(entry))
                entries.append(entry)
            signed = notes.parse_checkpoint(batch.note)
            if (signed.size, signed.root) != (self.tree.size, self.tree.root()):
                raise IntegrityError(
                    f"the audit log does not lead to its checkpoint of {signed.size} entries",
                    hint="`catena audit verify` says where it was changed; restore it from a backup",
                )
        notes.open_checkpoint(parsed.batches[-1].note, self._signer.key)
        self.view = View(base, entries, self.tree.size, parsed.batches[-1].note, len(self._open))

    def _check_published(self) -> None:
        """The published checkpoint is proof of what was once acknowledged: the log must still hold it."""
        try:
            note = (self._folder / "checkpoint").read_bytes().decode()
        except (FileNotFoundError, UnicodeDecodeError):
            raise IntegrityError(
                "the audit log's published checkpoint is missing or damaged", hint="restore the folder from a backup"
            ) from None
        published = notes.open_checkpoint(note, self._signer.key)
        if published.size > self.tree.size:
            raise IntegrityError(
                f"the audit log holds {self.tree.size} entries but was published with {published.size}",
                hint="acknowledged records are missing; restore the folder from a backup",
            )
        if merkle.root(self.tree.node, published.size) != published.root:
            raise IntegrityError(f"the audit log contradicts its published checkpoint of {published.size} entries")

    def _published(self) -> int:
        """The size of the published checkpoint, -1 if there is none."""
        path = self._folder / "checkpoint"
        return notes.parse_checkpoint(path.read_text(encoding="utf-8")).size if path.exists() else -1

    def _place(self, path: str, data: bytes) -> None:
        tiles.write(self._folder / path, data)
        if ".p/" not in path:
            shutil.rmtree(self._folder / f"{path}.p", ignore_errors=True)

    def _sync_folders(self, paths: Iterable[str]) -> None:
        """Make the names of `paths` durable, and of the folders that lead to them."""
        folders = {parent for path in paths for parent in (self._folder / path).relative_to(self._folder).parents}
        for folder in sorted(folders, key=lambda each: -len(each.parts)):
            sync(self._folder / folder)


def unwritable(error: OSError) -> AuditError:
    """What a caller is told when the disk refuses: without a record there is no answer."""
    return AuditError(
        f"the audit log cannot be written: {error.strerror or error}",
        hint="no record, no answer: free space on, or remount, the disk that holds CATENA_HOME; it recovers by itself",
    )


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConflictError(
            "the audit log is being written by another process",
            hint="stop the other `catena up`, or give this one a state folder of its own (CATENA_HOME)",
        ) from None
    return lock


def _write_at(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _cut(file: int, length: int) -> bool:
    """Take back what was written beyond `length`; False if even that fails."""
    try:
        os.ftruncate(file, length)
    except OSError:
        return False
    return True
