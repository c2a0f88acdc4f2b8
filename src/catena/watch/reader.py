"""Reading the audit log: finds, lists, proves and verifies; takes no lock and works beside a live writer."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from catena.core.errors import IntegrityError, NotFoundError
from catena.core.messages import Closed, Opened
from catena.watch import journal, merkle, notes, pairing, tiles, verification
from catena.watch.proof import Proof, ProvedRecord
from catena.watch.tiles import WIDTH
from catena.watch.tree import Tree
from catena.watch.verification import Verdict
from catena.watch.verifier import FORMAT, leaf_hash

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_AT_NS = re.compile(rb'"at_ns":(\d{1,19}),')


class Recorded(NamedTuple):
    """One request in the log; the closing part is None while it is open."""

    opened: Opened
    opened_index: int
    closed: Closed | None
    closed_index: int | None


class Included(NamedTuple):
    """One entry with its inclusion path (hashes, lowest first) under the signed tree head `note` of `size` entries."""

    note: str
    size: int
    entry: bytes
    path: list[bytes]


class View(NamedTuple):
    """The log at one moment: entries from `base` on in memory, older ones in bundles; `size` of them are committed."""

    base: int
    entries: list[bytes]
    size: int
    note: str
    num_open: int


class Source(Protocol):
    """Where the log's present state comes from."""

    @property
    def tree(self) -> Tree: ...

    @property
    def view(self) -> View: ...


class Still(NamedTuple):
    """A state that does not change."""

    tree: Tree
    view: View


class Reading:
    """What writer and reader share: questions to the log as it is committed at that moment."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder
        self._source = source
        self._bundle: tuple[int, list[bytes]] = (-1, [])

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._source.view.size

    @property
    def num_open(self) -> int:
        """How many requests are opened and not closed."""
        return self._source.view.num_open

    @property
    def root(self) -> bytes:
        """The Merkle root (32 bytes) over all durable entries."""
        return merkle.root(self._source.tree.node, self._source.view.size)

    def checkpoint(self) -> str:
        """The newest signed tree head, a C2SP signed note. Raises NotFoundError for a log that was never written."""
        if not self._source.view.note:
            raise NotFoundError("the audit log has no checkpoint yet", hint="it begins with the first `catena up`")
        return self._source.view.note

    def find(self, receipt: str) -> Recorded:
        """The records of `receipt` with their indices. Raises NotFoundError."""
        view = self._source.view
        opened_index = _find_open(self.folder, view, receipt)
        if opened_index is None:
            raise NotFoundError(f"the audit log knows no receipt {receipt!r}", hint="`catena audit show` lists them")
        closed_index = _find_close(self.folder, view, receipt, opened_index)
        return self._recorded(view, opened_index, closed_index)

    def recent(self, limit: int, before: str | None = None) -> list[Recorded]:
        """The newest `limit` requests, newest first; with `before`, those opened before that receipt was."""
        view, closes, rows = self._source.view, dict[int, int](), list[Recorded]()
        is_past = before is None
        if before is not None and _find_open(self.folder, view, before) is None:
            raise NotFoundError(f"the audit log knows no receipt {before!r}")
        for index, entry in _backwards(self.folder, view):
            if len(rows) >= limit:
                break
            receipt, opened_index, is_end = pairing.part(entry)
            if opened_index is not None:
                if is_end:
                    closes[opened_index] = index
            elif is_past:
                rows.append(self._recorded(view, index, closes.get(index)))
            else:
                is_past = receipt == before
        return rows

    def entry(self, index: int) -> bytes:
        """The bytes of entry `index`. Raises NotFoundError beyond the end."""
        if not 0 <= index < self._source.view.size:
            raise NotFoundError(f"the audit log has {self._source.view.size} entries, so no entry {index}")
        view = self._source.view
        if index >= view.base:
            return view.entries[index - view.base]
        number = index // WIDTH
        found, entries = self._bundle  # one look: another thread may replace it
        if found != number:
            entries = _unpacked(self.folder, number)
            self._bundle = (number, entries)
        return entries[index % WIDTH]

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree over the 2^level entries from index·2^level on; all must be durable."""
        assert index + 1 << level <= self._source.view.size
        return self._source.tree.node(level, index)

    def prove(self, receipt: str, salt: bytes | None = None) -> Proof:
        """A proof for `receipt` under the newest checkpoint; `salt` lets its holder compare texts. NotFoundError."""
        view = self._source.view
        _, opened_index, _, closed_index = self.find(receipt)
        indices = [index for index in (opened_index, closed_index) if index is not None and index < view.size]
        return Proof(
            format=FORMAT,
            receipt=receipt,
            checkpoint=view.note,
            records=tuple(self._proved(view, index) for index in indices),
            salt=None if salt is None else _base64(salt),
        )

    def included(self, index: int) -> Included:
        """Entry `index` and what proves it. Raises NotFoundError beyond the end."""
        view = self._source.view
        if not 0 <= index < view.size:
            raise NotFoundError(f"the audit log has {view.size} entries, so no entry {index}")
        path = merkle.inclusion(self._source.tree.node, index, view.size)
        return Included(view.note, view.size, _entry(self.folder, view, index), path)

    def consistency(self, first: int) -> list[bytes]:
        """The path that proves today's log to extend its first `first` entries (RFC 6962, 2.1.2)."""
        return merkle.consistency(self._source.tree.node, first, self._source.view.size)

    def verify(self, verifier_key: str, *, is_full: bool = False, since: str | None = None) -> Verdict:
        """Check everything on disk under `verifier_key`: see `catena.watch.verification`."""
        return verification.verify(self.folder, verifier_key, is_full=is_full, since=since)

    def _proved(self, view: View, index: int) -> ProvedRecord:
        path = merkle.inclusion(self._source.tree.node, index, view.size)
        entry = _entry(self.folder, view, index)
        return ProvedRecord(index, _base64(entry), tuple(_base64(hash) for hash in path))

    def _recorded(self, view: View, opened_index: int, closed_index: int | None) -> Recorded:
        opened = pairing.decode(_entry(self.folder, view, opened_index))
        closed = None if closed_index is None else pairing.decode(_entry(self.folder, view, closed_index))
        if not isinstance(opened, Opened) or not isinstance(closed, Closed | None):
            raise IntegrityError(f"entry {opened_index} of the audit log is not what its first bytes say")
        return Recorded(opened, opened_index, closed, closed_index)


class AuditReader(Reading):
    """The log as it was when this reader was opened. `open` again to see what came since."""

    @classmethod
    def open(cls, folder: Path) -> AuditReader:
        """Read the log in `folder`, which may not exist yet. Raises IntegrityError where it is damaged.

        Neither signatures nor old tiles are checked here; `verify` does that.
        """
        for _ in range(100):
            journals = journal.find(folder)
            if not journals:
                if not journal.is_unborn(folder):
                    raise IntegrityError("the audit log's journal is missing", hint="restore it from a backup")
                return cls(folder, Still(Tree(folder), View(0, [], 0, "", 0)))
            base, path = journals[0]
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # the writer turned over to a new journal between the two looks
            except OSError as error:
                raise IntegrityError(f"the audit log's journal cannot be read: {error.strerror}") from None
            return cls(folder, _load(folder, base, journal.parse(data)))
        raise IntegrityError("the audit log's journal cannot be found twice in a row")


def _load(folder: Path, base: int, parsed: journal.Parsed) -> Still:
    note = parsed.batches[-1].note
    head = journal.parse_head(parsed.head.rpartition("\n\n")[0] + "\n", notes.parse_checkpoint(note).origin)
    if head.base != base or base % WIDTH:
        raise IntegrityError(f"the journal's name says it starts at entry {base}, its head says {head.base}")
    entries = [entry for batch in parsed.batches for entry in tiles.unpack(batch.bundle)]
    tree = Tree(folder, base)
    num_open = len(head.open)
    for entry in entries:
        tree.append(leaf_hash(entry))
        part = pairing.part(entry)
        num_open += (part.opened_index is None) - part.is_end
    return Still(tree, View(base, entries, base + len(entries), note, num_open))


def _bundle(folder: Path, number: int) -> bytes:
    return tiles.read(folder / tiles.entries_path(number))


def _entry(folder: Path, view: View, index: int) -> bytes:
    if index >= view.base:
        return view.entries[index - view.base]
    return _unpacked(folder, index // WIDTH)[index % WIDTH]


def _unpacked(folder: Path, number: int) -> list[bytes]:
    entries = tiles.unpack(_bundle(folder, number))
    if len(entries) != WIDTH:
        raise IntegrityError(f"{tiles.entries_path(number)} holds {len(entries)} entries instead of 256")
    return entries


def _backwards(folder: Path, view: View) -> Iterator[tuple[int, bytes]]:
    for index in range(view.size - 1, view.base - 1, -1):
        yield index, view.entries[index - view.base]
    for number in range(view.base // WIDTH - 1, -1, -1):
        for offset, entry in reversed(list(enumerate(tiles.unpack(_bundle(folder, number))))):
            yield number * WIDTH + offset, entry


def _find_open(folder: Path, view: View, receipt: str) -> int | None:
    start = pairing.opening(receipt)
    for index in range(view.size - 1, view.base - 1, -1):
        if view.entries[index - view.base].startswith(start):
            return index
    for number in _likely_first(folder, view.base // WIDTH, receipt):
        bundle = _bundle(folder, number)
        # A quote inside a JSON string is escaped, so these bytes can only be the start of an entry.
        if start in bundle:
            return number * WIDTH + _offset(bundle, start)
    return None


def _likely_first(folder: Path, num_bundles: int, receipt: str) -> Iterator[int]:
    """Every bundle, those first that were written when the receipt's id was made.

    Clocks may jump, so this is only an order: a receipt that is not where it should be is found all the same.
    """
    made_ns = _made_at_ns(receipt)
    low, high = 0, num_bundles
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _starts_at_ns(folder, middle) <= made_ns else (low, middle)
    for distance in range(num_bundles + 1):
        if 0 <= low - 1 - distance < num_bundles:
            yield low - 1 - distance
        if low + distance < num_bundles:
            yield low + distance


def _made_at_ns(receipt: str) -> int:
    """When an id of `core.ids` was made, 0 for other words: its first ten letters are milliseconds in base 32."""
    made_ms = 0
    for letter in receipt.partition("_")[2][:10]:
        made_ms = made_ms * 32 + max(_LETTERS.find(letter), 0)
    return made_ms * 1_000_000


def _starts_at_ns(folder: Path, number: int) -> int:
    path = folder / tiles.entries_path(number)
    try:
        with path.open("rb") as file:
            match = _AT_NS.search(file.read(256))
    except OSError as error:
        raise IntegrityError(f"a bundle of the audit log cannot be read: {error.strerror}") from None
    return int(match[1]) if match else 0


def _find_close(folder: Path, view: View, receipt: str, opened_index: int) -> int | None:
    start = pairing.closing(receipt)
    for number in range(opened_index // WIDTH, view.base // WIDTH):
        bundle = _bundle(folder, number)
        if start in bundle:
            return number * WIDTH + _offset(bundle, start)
    for index in range(max(opened_index, view.base), view.size):
        if view.entries[index - view.base].startswith(start):
            return index
    return None


def _offset(bundle: bytes, start: bytes) -> int:
    for offset, entry in enumerate(tiles.unpack(bundle)):
        if entry.startswith(start):
            return offset
    raise IntegrityError("a record starts within another one")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
