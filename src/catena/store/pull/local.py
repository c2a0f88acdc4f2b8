"""A file or folder on this machine: taken by reflink or hard link where the disk allows, else copied, resumably."""

from __future__ import annotations

import fcntl
import grp
import hashlib
import os
import pwd
import stat
from pathlib import Path

from msgspec import Struct

from catena.core.errors import ConflictError, InputError, NotFoundError, TooLargeError, UnsupportedError
from catena.core.settings import StoreSettings
from catena.store import beside, formats, seals
from catena.store.blobs import open_regular
from catena.store.formats import gguf, plain_text
from catena.store.pull.staging import Staged, stage
from catena.store.rows import How, Progress, Report

PIECE_BYTES = 1 << 20
SYNC_BYTES = 64 << 20
HEAD_BYTES = 16
# From linux/fs.h: _IOW(0x94, 9, int).
_FICLONE = 0x40049409
_PICKLES = frozenset({".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
# What is looked for in a folder, in this order: the ends of names, and the name that wins where there are several.
_WANTED = (
    (".gguf", "model.gguf"),
    (".onnx", "model.onnx"),
    (".safetensors", "model.safetensors"),
    (".xml", "openvino_model.xml"),
)


class Chosen(Struct, frozen=True):
    """What of a path makes a model: its format, and role, name and resolved path of each file, weights first."""

    format: str
    files: tuple[tuple[str, str, Path], ...]


def choose(path: Path) -> Chosen:
    """Look at `path`, a file or folder; of files only headers are read.

    Raises NotFoundError, FormatError, UnsupportedError; InputError for anything but plain files and folders.
    """
    folder = path if path.is_dir() else path.parent
    try:
        weights = _weights_in(path) if path.is_dir() else _first_part(path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from None
    format = _format_of(weights)
    module = formats.find(format)
    files = [("weights", plain_text(weights.name), _resolved(weights))]
    with formats.told_of(plain_text(weights.name)):
        for name in module.parts(weights.name, lambda name: _beside(folder, name)):
            files.append(("weights", name, formats.path_of(name, lambda name: _beside(folder, name))))
    if path.is_dir() or format != "gguf":
        for name, role in module.COMPANIONS.items():
            found = _projector(folder) if role == "projector" else folder / name
            if found is not None and found.is_file():
                files.append((role, name, _resolved(found)))
    return Chosen(format, tuple(files))


def take(chosen: Chosen, folder: Path, settings: StoreSettings, report: Report) -> list[Staged]:
    """Bring every chosen file into `folder` as a draft. Raises ConflictError if one changes while it is read."""
    return [
        _take(role, name, path, folder / f"{index}", settings, report)
        for index, (role, name, path) in enumerate(chosen.files)
    ]


def _weights_in(folder: Path) -> Path:
    present = sorted(folder.iterdir())
    for suffix, best in _WANTED:
        found = [path for path in present if path.name.lower().endswith(suffix)]
        if suffix in (".xml", ".onnx"):
            companions = formats.find("openvino" if suffix == ".xml" else "onnx").COMPANIONS
            found = [path for path in found if path.name not in companions]
        found = [path for path in found if not gguf.is_projector(path.name)]
        # Of several parts the first stands for all.
        found = [path for path in found if beside.part_number(path.name) <= 1]
        named = [path for path in found if path.name == best]
        if len(found) == 1 or named:
            return (named or found)[0]
        if found:
            raise InputError(
                f"{folder.name} holds {len(found)} models",
                hint=f"name one file: {', '.join(each.name for each in found[:5])}",
            )
    pickles = [path.name for path in present if path.suffix.lower() in _PICKLES]
    if pickles:
        raise _pickled(pickles[0])
    raise NotFoundError(
        f"{folder.name} holds no model",
        hint="a folder needs a .gguf file, model.onnx, model.safetensors with config.json, or openvino_model.xml",
    )


def _projector(folder: Path) -> Path | None:
    """The one projector in the folder; None without one. Raises InputError where there are several."""
    found = [path for path in sorted(folder.iterdir()) if gguf.is_projector(path.name)]
    if len(found) > 1:
        raise InputError(
            f"{folder.name} holds {len(found)} projectors",
            hint=f"keep one: {', '.join(each.name for each in found[:5])}",
        )
    return found[0] if found else None


def _first_part(path: Path) -> Path:
    """The first of the parts that `path` is one of; `path` itself if it is none. Raises NotFoundError."""
    if beside.part_number(path.name) == 0:
        return path
    first = path.with_name(f"{path.stem[:-15]}-00001-of-{path.stem[-5:]}{path.suffix}")
    if not first.is_file():
        raise NotFoundError(f"{first.name} is missing", hint="all parts must lie in one folder")
    return first


def _pickled(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} is, or may hold, a pickle: loading it would run whatever code is in it",
        hint="take the same model as safetensors, GGUF or ONNX",
    )


def _format_of(path: Path) -> str:
    descriptor = _open(path)
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
    finally:
        os.close(descriptor)
    # Pickle protocols 2 and up start so; PyTorch packs pickles into zip archives.
    if (
        path.suffix.lower() in _PICKLES
        or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")
        or (head[:2] == b"PK" and path.suffix.lower() != ".skops")
    ):
        raise _pickled(path.name)
    format = formats.recognise(head, path.name)
    if format is None:
        raise UnsupportedError(
            f"{path.name} is of no format that is known here", hint=f"known: {', '.join(formats.names())}"
        )
    return format


def _beside(folder: Path, name: str) -> Path | None:
    """The file called `name` in the folder, links followed once."""
    return _resolved(folder / name) if (folder / name).is_file() else None


def _resolved(path: Path) -> Path:
    """Links are followed here, once; from here on one is refused."""
    try:
        return path.resolve(strict=True)
    except OSError as error:
        raise NotFoundError(f"{path.name} cannot be found: {error.strerror}") from None


def _open(path: Path) -> int:
    try:
        return open_regular(_resolved(path))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from None


def _take(role: str, name: str, path: Path, draft: Path, settings: StoreSettings, report: Report) -> Staged:
    descriptor = _open(path)
    try:
        found = os.fstat(descriptor)
        if found.st_size > settings.max_file_bytes:
            raise TooLargeError(f"{name} has {found.st_size} bytes", hint="see store.max_file_bytes")
        how = share(descriptor, path, draft)
        if how is None:
            how = "copied"
            digest = _copy(descriptor, found, draft, name, report)
        else:
            digest = _read(draft, name, report)
        now = os.fstat(descriptor)
        if (now.st_size, now.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise ConflictError(f"{name} was changed while it was read", hint="pull again when nobody writes to it")
    finally:
        os.close(descriptor)
    return stage(role, name, draft, digest, how)


def share(descriptor: int, path: Path, draft: Path) -> How | None:
    """Let `draft` share the bytes of an open file; None if this disk, or its rules, do not allow it."""
    draft.unlink(missing_ok=True)
    with draft.open("xb") as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, descriptor)
        except OSError:
            pass
        else:
            draft.chmod(0o400)
            return "cloned"
    draft.unlink()
    # Whoever may write to a linked file may write into the store.
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        return None
    if found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid):
        return None
    try:
        os.link(path, draft, follow_symlinks=False)
    except OSError:
        return None
    if os.path.samestat(draft.lstat(), found):
        return "linked"
    draft.unlink()
    raise ConflictError(f"{path.name} was replaced while it was read", hint="pull again")


def _is_own_group(gid: int) -> bool:
    """Whether a group is the private one of this user: where each has one, files are writable by their group."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _read(draft: Path, name: str, report: Report) -> str:
    descriptor = open_regular(draft)
    try:
        size = os.fstat(descriptor).st_size
        return seals.hash_file(descriptor, lambda done: report(Progress("read", name, done, size)))
    finally:
        os.close(descriptor)


def _copy(source: int, found: os.stat_result, draft: Path, name: str, report: Report) -> str:
    """Copy an open file to `draft` and return its digest, going on where a killed copy of the same file stopped.

    What counts as copied is what was synced: its length is kept in a second file, together with the identity of the
    source, and only that much of the draft is trusted.
    """
    part, mark = draft.with_suffix(".part"), draft.with_suffix(".mark")
    identity = f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    done = _marked(mark, part, identity)
    total = hashlib.sha256()
    target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(target, done)
        position = 0
        while position < done:
            piece = os.pread(target, min(PIECE_BYTES, done - position), position)
            total.update(piece)
            position += len(piece)
        synced = done
        while piece := os.pread(source, PIECE_BYTES, done):
            total.update(piece)
            view = memoryview(piece)
            while view:
                written = os.pwrite(target, view, done)
                view, done = view[written:], done + written
            if done - synced >= SYNC_BYTES:
                os.fsync(target)
                mark.write_text(f"{identity}\n{done}\n", encoding="ascii")
                synced = done
            report(Progress("store", name, done, found.st_size))
        os.fchmod(target, 0o400)
    finally:
        os.close(target)
    part.replace(draft)
    mark.unlink(missing_ok=True)
    return f"sha256:{total.hexdigest()}"


def _marked(mark: Path, part: Path, identity: str) -> int:
    """How many bytes of an earlier copy of this same source can be trusted."""
    try:
        lines = mark.read_text(encoding="ascii").splitlines()
        size = part.stat().st_size
    except (OSError, UnicodeDecodeError):
        return 0
    if len(lines) != 2 or lines[0] != identity or not lines[1].isdecimal() or int(lines[1]) > size:
        return 0
    return int(lines[1])
