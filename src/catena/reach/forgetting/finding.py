"""Finds everything a target names among what is kept: answers, files, batches, copies of what left, names of keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError, NotFoundError
from catena.reach.access import Table as KeyTable
from catena.reach.archive import Archive, Kept, Table
from catena.reach.batches import Batch, Batches, Files, StoredFile
from catena.reach.batches.journal import ERRORS, OUTPUT
from catena.reach.egress.keeping import Shelf
from catena.reach.forgetting.forms import Forms
from catena.reach.forgetting.target import Target
from catena.reach.forgetting.unpacking import pieces

OUTPUT_PURPOSE = "batch_output"
_RECEIPT = re.compile(rb"rcpt_[0-9a-hjkmnp-tv-z]{26}")


class Stores(NamedTuple):
    """Where content is kept. `archive` is None where nothing was ever kept in it."""

    archive: Archive | None
    files: Files
    batches: Batches
    shelf: Shelf
    keys: KeyTable
    database: Table


class Found(Struct):
    """Ids of what is to go, `departures` by path, and the receipts that it names."""

    answers: set[str] = msgspec.field(default_factory=set)
    files: set[str] = msgspec.field(default_factory=set)
    batches: set[str] = msgspec.field(default_factory=set)
    departures: set[Path] = msgspec.field(default_factory=set)
    key_names: set[str] = msgspec.field(default_factory=set)
    receipts: set[str] = msgspec.field(default_factory=set)
    unreadable: int = 0

    def __bool__(self) -> bool:
        return any((self.answers, self.files, self.batches, self.departures, self.key_names))


class _Links(Struct, frozen=True):
    previous_response_id: str | None = None


def find(stores: Stores, target: Target, forms: Forms) -> Found:
    """Read everything once. Blocks."""
    found = Found()
    if stores.archive is not None:
        _answers(stores.archive, target, forms, found)
    _files(stores.files, target, forms, found)
    _batches(stores, target, forms, found)
    _departures(stores.shelf, forms, found)
    for id, name in stores.keys.read("SELECT id, name FROM keys") if forms else ():
        if name != id and forms.find_text(name):
            found.key_names.add(id)
    return found


def _answers(archive: Archive, target: Target, forms: Forms, found: Found) -> None:
    links: dict[str, str] = {}
    receipts: dict[str, set[str]] = {}
    for one in archive.each():
        if not isinstance(one, Kept):
            if one.is_gone:  # its key was destroyed, and a kill kept its row
                found.answers.add(one.id)
            else:
                found.unreadable += 1
            continue
        data = b"\n".join((one.body, one.asked, *one.frames))
        receipts[one.id] = {match.decode() for match in _RECEIPT.findall(one.body)}
        if target.conversations:
            try:
                links[one.id] = msgspec.json.decode(one.body, type=_Links).previous_response_id or ""
            except msgspec.DecodeError:
                links[one.id] = ""
        if one.owner in target.keys or forms.find(data):
            found.answers.add(one.id)
    found.answers |= _conversations(links, target.conversations)
    for id in found.answers:
        found.receipts |= receipts.get(id, set())


def _conversations(links: dict[str, str], wanted: Iterable[str]) -> set[str]:
    """All answers that hang together with those wanted: earlier turns, later ones, and other ways it went on."""
    heads: dict[str, str] = {}

    def head(id: str) -> str:
        path: list[str] = []
        while (above := heads.get(id, id)) != id:
            path.append(id)
            id = above
        heads.update(dict.fromkeys(path, id))
        return id

    for id, before in links.items():
        if before:  # that one may be gone already, and still holds the others together
            heads[head(id)] = head(before)
    wanted_heads = {head(id) for id in wanted}
    return {id for id in links if head(id) in wanted_heads}


def _files(files: Files, target: Target, forms: Forms, found: Found) -> None:
    for file in files.each():
        if file.id in target.files or file.owner in target.keys or _holds(files, file, forms, found):
            found.files.add(file.id)
            if file.purpose == OUTPUT_PURPOSE:
                found.receipts |= _receipts_in(files, file)


def _receipts_in(files: Files, file: StoredFile) -> set[str]:
    """The receipts of answers in what a batch brought."""
    try:
        with files.content(file.id) as source:
            return {match.decode() for piece in pieces(source) for match in _RECEIPT.findall(piece)}
    except (NotFoundError, IntegrityError, OSError):
        return set()


def _holds(files: Files, file: StoredFile, forms: Forms, found: Found) -> bool:
    if not forms:
        return False
    if forms.find_text(file.filename):
        return True
    try:
        with files.content(file.id) as source:
            return any(forms.find(piece) for piece in pieces(source))
    except NotFoundError:
        return True
    except (IntegrityError, OSError):
        found.unreadable += 1
        return False


def _batches(stores: Stores, target: Target, forms: Forms, found: Found) -> None:
    batches = stores.batches
    for batch in batches.each():
        if (
            batch.id in target.batches
            or batch.owner in target.keys
            or batch.input_file_id in found.files
            or (forms and (forms.find(msgspec.json.encode(batch)) or _in_journal(batches, batch, forms, found)))
        ):
            found.batches.add(batch.id)
            # What came of it was made of the same.
            outputs = {batch.output_file_id, batch.error_file_id} - found.files
            for file in stores.files.each() if outputs else ():
                if file.id in outputs:
                    found.files.add(file.id)
                    found.receipts |= _receipts_in(stores.files, file)
    found.batches |= set(batches.gone())
    for id in found.batches:
        found.receipts |= _journal_receipts(batches, id)


def _lines(batches: Batches, id: str) -> Iterable[bytes]:
    for name in (OUTPUT, ERRORS):
        path = batches.folder(id) / name
        if path.exists():
            yield from batches.lines(path)


def _in_journal(batches: Batches, batch: Batch, forms: Forms, found: Found) -> bool:
    try:
        return any(forms.find(line) for line in _lines(batches, batch.id))
    except NotFoundError:
        return True
    except (IntegrityError, OSError, ValueError):
        found.unreadable += 1
        return False


def _journal_receipts(batches: Batches, id: str) -> set[str]:
    try:
        return {match.decode() for line in _lines(batches, id) for match in _RECEIPT.findall(line)}
    except (NotFoundError, IntegrityError, OSError, ValueError):
        return set()


def _departures(shelf: Shelf, forms: Forms, found: Found) -> None:
    for path, shown in shelf.each():
        if shown is None or path.name.partition(".")[0] in found.receipts or forms.find(shown):
            found.departures.add(path)
            found.receipts.add(path.name.partition(".")[0])
