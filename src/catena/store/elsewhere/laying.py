"""Lays a stored model out in another program's folder: by reflink or hard link where the disk allows, else by copy."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from catena.core.errors import ConflictError, ResourceError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.store import beside, seals
from catena.store.blobs import open_regular
from catena.store.pull import local
from catena.store.rows import How

PUBLISHER = "catena"


class Plan(Struct, frozen=True):
    """What a program wants to find, by path below its folder: files of the model, texts, and links to one of these.

    `name` is what the program will call the model; `leaves` what it will not know of it.
    """

    name: str
    files: dict[str, Path]
    texts: dict[str, bytes] = {}
    links: dict[str, str] = {}
    leaves: tuple[str, ...] = ()


class Laid(Struct, frozen=True):
    """What was done: the folder, the program's name for the model, how files came there, what does not come along."""

    folder: Path
    name: str
    how: How
    num_files: int
    leaves: tuple[str, ...]


def lay_out(plan: Plan, folder: Path) -> Laid:
    """Put what is planned into `folder`; what lies there already and is the same stays.

    Raises ConflictError if something else lies there, ResourceError.
    """
    how: How = "present"
    num_files = 0
    with _told(folder):
        for name, source in plan.files.items():
            path = _prepared(folder, name)
            if not _is_same(path, source):
                how, num_files = _place(source, path), num_files + 1
        for name, data in plan.texts.items():
            path = _prepared(folder, name)
            if path.exists() and path.read_bytes() != data:
                raise ConflictError(f"{path} holds something else", hint="remove it, or export to another folder")
            _write(path, data)
        for name, target in plan.links.items():
            path = _prepared(folder, name)
            goal = os.path.relpath(folder / target, path.parent)
            if not path.is_symlink() and not path.exists():
                path.symlink_to(goal)
            elif not path.is_symlink() or path.readlink() != Path(goal):
                raise ConflictError(f"{path} holds something else", hint="remove it, or export to another folder")
    return Laid(folder, plan.name, how, num_files, plan.leaves)


def gguf_files(model: StoredModel, program: str) -> dict[str, Path]:
    """The files of a GGUF model that is no adapter, by name. Raises UnsupportedError for any other."""
    manifest = model.manifest
    if manifest.format != "gguf" or manifest.task == "adapter":
        raise UnsupportedError(
            f"{program} runs GGUF models; {model.name} is {manifest.format}, task {manifest.task}",
            hint="`catena convert --to gguf` makes one of safetensors",
        )
    return {entry.name: model.paths[entry.name] for entry in manifest.files if entry.role == "weights"}


def snapshot(model: StoredModel, repository: str, revision: str, files: dict[str, Path]) -> Plan:
    """A repository in the layout of the Hugging Face cache (Hugging Face, "Hub local cache")."""
    digests = {entry.name: entry.digest.removeprefix("sha256:") for entry in model.manifest.files}
    return Plan(
        f"{PUBLISHER}/{model.name}",
        {f"{repository}/blobs/{digests[name]}": path for name, path in files.items()},
        {f"{repository}/refs/main": revision.encode()},
        {f"{repository}/snapshots/{revision}/{name}": f"{repository}/blobs/{digests[name]}" for name in files},
    )


@contextmanager
def _told(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written: {error.strerror}", hint="name a folder of your own with --into"
        ) from error


def _prepared(folder: Path, name: str) -> Path:
    if not beside.is_within(name):
        raise UnsupportedError(f"{name!r} cannot name a file there")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_same(path: Path, source: Path) -> bool:
    """Whether `path` is there with the content of `source`. Raises ConflictError if it has another."""
    if not path.exists():
        return False
    if path.samefile(source) or (path.stat().st_size == source.stat().st_size and _digest(path) == _digest(source)):
        return True
    raise ConflictError(f"{path} holds something else", hint="remove it, or export to another folder")


def _digest(path: Path) -> str:
    descriptor = open_regular(path.resolve())
    try:
        return seals.hash_file(descriptor, lambda _: None)
    finally:
        os.close(descriptor)


def _place(source: Path, path: Path) -> How:
    """Bring one file there under a name of its own, then under the right one: whoever looks sees it whole."""
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        descriptor = open_regular(source)
        try:
            how = local.share(descriptor, source, draft)
        finally:
            os.close(descriptor)
        if how is None:
            how = "copied"
            shutil.copyfile(source, draft)
        if how != "linked":
            draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return how


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
