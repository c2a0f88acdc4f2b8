"""Checks the whole log: every byte on disk against what was signed, and every request opened and closed once.

Two depths. `sealed`: the files before the journal are hashed in one pass against the seal that the journal's signed
head holds, the tree above 256-entry tiles is rebuilt to the signed root, and a sample of tiles is hashed anew entry by
entry. `full`: every entry and every tile is hashed anew; it also holds against whoever has the signing key, if a
checkpoint held from earlier is given. A rollback to an older state of the log shows only against such a checkpoint.
"""

from __future__ import annotations

import base64
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from catena.core.errors import IntegrityError
from catena.watch import journal, layout, merkle, notes, rehash, tiles
from catena.watch.pairing import Pairs
from catena.watch.tiles import HASH_BYTES, WIDTH
from catena.watch.tree import Tree
from catena.watch.verifier import Key, leaf_hash

SAMPLE_TILES = 16
MAX_PROBLEMS = 100
MAX_PAIR_PROBLEMS = 10
_PATH = re.compile(r"tile/(entries|\d{1,2})/((?:x\d{3}/){0,5}\d{3})(?:\.p/(\d{1,3}))?")


class Problem(Struct, frozen=True):
    """What is wrong, in which file, and at which entry where that is known."""

    file: str
    what: str
    index: int | None = None


class Verdict(Struct, frozen=True):
    """The outcome. `records` entries are in the log, `open` requests not closed; `root` and `checkpoint` as signed.

    `torn_bytes` follow the last complete write: left by a crash or a write that is going on; they hold no record.
    """

    ok: bool
    records: int
    open: int
    root: str
    checkpoint: str
    problems: tuple[Problem, ...] = ()
    depth: Literal["sealed", "full"] = "sealed"
    torn_bytes: int = 0


class _Loaded(NamedTuple):
    folder: Path
    head: journal.Head
    parsed: journal.Parsed
    tree: Tree
    entries: list[bytes]


def verify(folder: Path, verifier_key: str, *, is_full: bool = False, since: str | None = None) -> Verdict:
    """Check the log in `folder` under `verifier_key`; `since` is a checkpoint held from earlier, and implies `is_full`.

    Raises IntegrityError only for a malformed `verifier_key`; whatever is wrong with the log is in the verdict.
    """
    return _Check(folder, notes.parse_key(verifier_key), is_full or since is not None, since).run()


class _Check:
    """One verification run; `problems` collects what is wrong."""

    def __init__(self, folder: Path, key: Key, is_full: bool, since: str | None) -> None:
        self.folder = folder
        self.key = key
        self.is_full = is_full
        self.since = since
        self.problems: list[Problem] = []
        self.pair_problems: list[Problem] = []
        self.num_open = 0

    def run(self) -> Verdict:
        # Listed and read before the journal: beside a live writer the journal then knows all that these show.
        files = sorted(_files(self.folder))
        published = self._read_checkpoint()
        loaded = self._load()
        if loaded is None:
            if journal.is_unborn(self.folder) and self.since is None:
                return Verdict(True, 0, 0, _base64(merkle.root(Tree(self.folder).node, 0)), "")
            return self._verdict(0, "", "", 0)
        pairs = Pairs(self.fail_pair)
        self._check_final(loaded, pairs)
        if pairs.open != loaded.head.open:
            self.fail(journal.name(loaded.head.base), "its head lists other open requests than the entries before it")
        pairs.add(tiles.pack(loaded.entries), loaded.head.base)
        pairs.finish()
        self._check_batches(loaded)
        self._check_files(files, loaded)
        self._check_published(published, files, loaded.tree)
        if self.since is not None:
            self._check_against("the held checkpoint", self.since, loaded.tree)
        self.num_open = len(pairs.open)
        root = _base64(loaded.tree.root())
        return self._verdict(loaded.tree.size, root, loaded.parsed.batches[-1].note, loaded.parsed.num_torn_bytes)

    def fail(self, file: str, what: str, index: int | None = None) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(file, what, index))

    def fail_pair(self, what: str, index: int | None) -> None:
        # One missing entry makes all that follow it look wrong, so these come last and are few.
        if len(self.pair_problems) < MAX_PAIR_PROBLEMS:
            self.pair_problems.append(Problem("entries", what, index))

    def _verdict(self, records: int, root: str, checkpoint: str, torn_bytes: int) -> Verdict:
        return Verdict(
            ok=not self.problems and not self.pair_problems,
            records=records,
            open=self.num_open,
            root=root,
            checkpoint=checkpoint,
            problems=(*self.problems, *self.pair_problems),
            depth="full" if self.is_full else "sealed",
            torn_bytes=torn_bytes,
        )

    def _read_checkpoint(self) -> str | None:
        try:
            return (self.folder / "checkpoint").read_bytes().decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            self.fail("checkpoint", "it cannot be read as text")
            return None

    def _load(self) -> _Loaded | None:
        """Journal and tree; None, with a problem noted, where that is impossible."""
        name = "journal"
        try:
            for _ in range(100):
                journals = journal.find(self.folder)
                if not journals:
                    raise IntegrityError("the journal is missing")
                base, path = journals[0]
                name = path.name
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue  # the writer turned over between the two looks
                parsed = journal.parse(data)
                head = journal.open_head(parsed.head, self.key)
                if head.base != base or base % WIDTH:
                    raise IntegrityError(f"its name says it starts at entry {base}, its head says {head.base}")
                entries = [entry for batch in parsed.batches for entry in tiles.unpack(batch.bundle)]
                return _Loaded(self.folder, head, parsed, Tree(self.folder, base), entries)
        except IntegrityError as error:
            self.fail(error.param or name, error.message)
        except OSError as error:
            self.fail(name, f"it cannot be read: {error.strerror}")
        return None

    def _check_batches(self, loaded: _Loaded) -> None:
        """Every checkpoint in the journal must be signed, and fit the entries up to it."""
        name, tree = journal.name(loaded.head.base), loaded.tree
        for batch in loaded.parsed.batches:
            for entry in tiles.unpack(batch.bundle):
                tree.append(leaf_hash(entry))
            try:
                signed = notes.open_checkpoint(batch.note, self.key)
            except IntegrityError as error:
                self.fail(name, error.message, tree.size - 1)
                continue
            if (signed.size, signed.root) != (tree.size, tree.root()):
                self.fail(name, f"its entries do not lead to the signed root of {signed.size} entries", tree.size - 1)

    def _check_final(self, loaded: _Loaded, pairs: Pairs) -> None:
        """The full tiles before the journal: bytes against the seal, or entry by entry."""
        num_tiles, seal = loaded.head.base // WIDTH, layout.FIRST_SEAL
        mode: Literal["flat", "root"] = "root" if self.is_full else "flat"
        suspects: list[int] = []
        for number, digest in enumerate(rehash.digests(self.folder, mode, num_tiles)):
            try:
                bundle = tiles.read(self.folder / layout.entries_path(number))
                pairs.add(bundle, number * WIDTH)
            except IntegrityError as error:
                self.fail(layout.entries_path(number), error.message)
            if self.is_full and digest != self._expected_root(loaded.tree, number):
                suspects.append(number)
            seal = layout.seal(seal, digest)
        if not self.is_full:
            is_broken = seal != loaded.head.seal
            if is_broken:
                self.fail(journal.name(loaded.head.base), "the files before it do not match the seal in its head")
            suspects = list(range(num_tiles)) if is_broken else _sample(num_tiles)
        for number in suspects:
            self._check_tile(loaded.tree, number)
        if self.is_full or suspects:
            self._check_upper(loaded.tree, num_tiles)

    def _expected_root(self, tree: Tree, number: int) -> bytes:
        try:
            return tree.node(8, number)
        except IntegrityError:
            return b""

    def _check_tile(self, tree: Tree, number: int) -> None:
        """Hash the entries of one bundle anew and compare them with their tile and that with the row above."""
        try:
            hashes = layout.leaves(tiles.read(self.folder / layout.entries_path(number)))
            tile = tiles.read(self.folder / layout.hash_path(0, number))
        except (IntegrityError, ValueError) as error:
            self.fail(layout.entries_path(number), str(error))
            return
        if len(hashes) != WIDTH:
            self.fail(layout.entries_path(number), f"it holds {len(hashes)} entries instead of 256")
        if len(tile) != WIDTH * HASH_BYTES:
            self.fail(layout.hash_path(0, number), f"it has {len(tile)} bytes instead of 8192")
            return
        kept = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
        for offset, (found, expected) in enumerate(zip(hashes, kept, strict=False)):
            if found != expected:
                self.fail(layout.entries_path(number), "the entry does not match its hash", number * WIDTH + offset)
        if layout.fold(kept) != self._expected_root(tree, number):
            self.fail(layout.hash_path(0, number), "the tile does not match the hash above it")

    def _check_upper(self, tree: Tree, num_tiles: int) -> None:
        """Full tiles above row 0: each must be the root's child of the row above, and hold the roots of those below."""
        row, count = 1, num_tiles // WIDTH
        while count:
            for number in range(count):
                path = layout.hash_path(row, number)
                try:
                    tile = tiles.read(self.folder / path)
                    hashes = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
                    if len(tile) != WIDTH * HASH_BYTES or layout.fold(hashes) != tree.node(8 * (row + 1), number):
                        self.fail(path, "the tile does not match the hash above it")
                except IntegrityError as error:
                    self.fail(path, error.message)
            row, count = row + 1, count // WIDTH

    def _check_files(self, files: list[str], loaded: _Loaded) -> None:
        """Files that a C2SP reader would use, beyond those checked above, must say the same as the journal."""
        base = loaded.head.base
        final = {path for number in range(base // WIDTH) for path in layout.completed(number)}
        for path in files:
            if path in final:
                continue
            expected = _expected(path, loaded)
            try:
                data = (self.folder / path).read_bytes()
            except FileNotFoundError:
                continue  # a live writer removed a partial tile that a newer one replaces
            except OSError as error:
                self.fail(path, f"it cannot be read: {error.strerror}")
                continue
            if expected is None:
                self.fail(path, "it does not belong to the log, or to more of it than the journal knows")
            elif data != expected:
                self.fail(path, "it differs from what the journal says")

    def _check_published(self, published: str | None, files: list[str], tree: Tree) -> None:
        """The published checkpoint must be there, hold, and be served with the partial tiles that it needs."""
        if published is None:
            self.fail("checkpoint", "the published checkpoint is missing")
            return
        self._check_against("checkpoint", published, tree)
        try:
            size = notes.parse_checkpoint(published).size
        except IntegrityError:
            return
        for path in layout.partial_paths(size):
            is_there = path in files or path.partition(".p/")[0] in files
            # A live writer may have published anew since: then the older partial tiles may be gone.
            if not is_there and self._read_checkpoint() == published:
                self.fail(path, "the published checkpoint needs this file, and it is missing")

    def _check_against(self, name: str, note: str, tree: Tree) -> None:
        """A checkpoint signed earlier must be of this log, and this log must still hold all it was signed over."""
        try:
            signed = notes.open_checkpoint(note, self.key)
            if signed.size > tree.size:
                what = f"it was signed over {signed.size} entries, the log holds only {tree.size}: it was cut back"
                self.fail(name, what, tree.size)
            elif merkle.root(tree.node, signed.size) != signed.root:
                self.fail(name, f"the log's first {signed.size} entries are not those it was signed over: a fork")
        except IntegrityError as error:
            self.fail(name, error.message)


def _files(folder: Path) -> Iterator[str]:
    """Every file under `tile`, relative to the log's folder; drafts of unfinished writes are left out."""
    start = len(str(folder)) + 1
    for parent, _, names in os.walk(folder / "tile"):
        place = parent[start:].replace(os.sep, "/")
        for name in names:
            if not (name.startswith(".") and name.endswith(".draft")):
                yield f"{place}/{name}"


def _expected(path: str, loaded: _Loaded) -> bytes | None:
    """What the file at `path` should hold, by the journal and the final tiles; None if there should be no such file."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    number, width = int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH)
    row = 0 if match[1] == "entries" else int(match[1])
    name = layout.entries_path(number, width) if match[1] == "entries" else layout.hash_path(row, number, width)
    first = number * WIDTH
    if row > 7 or not 1 <= width <= WIDTH or name != path or (first + width) << 8 * row > loaded.tree.size:
        return None
    try:
        if match[1] != "entries":
            return b"".join([loaded.tree.node(8 * row, position) for position in range(first, first + width)])
        base = loaded.head.base
        if first >= base:
            return tiles.pack(loaded.entries[first - base : first - base + width])
        return tiles.pack(tiles.unpack(tiles.read(loaded.folder / layout.entries_path(number)))[:width])
    except IntegrityError:
        return None


def _sample(num_tiles: int) -> list[int]:
    # Which tiles are looked at must not be foreseeable.
    return sorted(random.SystemRandom().sample(range(num_tiles), min(SAMPLE_TILES, num_tiles)))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
