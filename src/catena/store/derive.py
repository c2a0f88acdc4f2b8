"""Makes models out of stored ones: under another name, with defaults and a chat template of their own, from uploads."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from catena.core.errors import ConflictError, InputError, IntegrityError, NotFoundError, TooLargeError
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.settings import StoreSettings
from catena.store import formats, seals
from catena.store.blobs import Blobs
from catena.store.formats import Value, plain_text
from catena.store.manifests import Manifests, Named, digest_of
from catena.store.pull import check_name, describe
from catena.store.pull.staging import Staged, stage
from catena.store.seals import Seals

TEMPLATE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 1 << 20


class Change(Struct, frozen=True):
    """What a derived model has of its own; None or empty: as its base. `parents` are digests beside the base's."""

    facts: dict[str, Value] = {}
    template: str | None = None
    licence: str | None = None
    parents: tuple[str, ...] = ()


class Deriver:
    """Commits manifests whose files lie in the store already."""

    def __init__(self, blobs: Blobs, manifests: Manifests, seals: Seals, settings: StoreSettings) -> None:
        self._blobs = blobs
        self._manifests = manifests
        self._seals = seals
        self._settings = settings

    def copy(self, base: StoredModel, name: str) -> Named:
        """The same model under `name`. Raises ConflictError if other files have that name, InputError."""
        check_name(name)
        return self._commit(msgspec.structs.replace(base.manifest, name=name), [])

    def derive(self, base: StoredModel, name: str, change: Change) -> Named:
        """`base` changed, as a model called `name` with `base` as its parent; its files are shared.

        A model of this name with the same weights is replaced. Raises ConflictError if it has others, InputError,
        TooLargeError for a template.
        """
        check_name(name)
        manifest = msgspec.structs.replace(
            base.manifest,
            name=name,
            facts={**base.manifest.facts, **change.facts},
            licence=change.licence or base.manifest.licence,
            provenance=Provenance(f"model:{base.name}", parents=(base.digest, *change.parents)),
        )
        if change.template is None:
            return self._commit(manifest, [])
        data = change.template.encode()
        if len(data) > MAX_TEMPLATE_BYTES:
            raise TooLargeError("the chat template is longer than 1 MiB", param="template")
        with self.receiving(digest_of(data)) as upload:
            upload.write(data)
        template = FileEntry("template", TEMPLATE, len(data), digest_of(data))
        files = (*(entry for entry in manifest.files if entry.role != "template"), template)
        return self._commit(msgspec.structs.replace(manifest, files=files, chat_template_digest=template.digest), [])

    def adopt(self, name: str, files: Mapping[str, str]) -> Named:
        """A model of files that were received, by their names: weights, and what belongs to them.

        Raises NotFoundError for a file that is not here, FormatError, UnsupportedError, InputError, ConflictError.
        """
        check_name(name)
        format, staged = self._recognised(files)
        weights = staged[0].entry
        provenance = Provenance(f"upload:{plain_text(weights.name)}", source_digest=weights.digest)
        return self._commit(describe(name, format, staged, provenance), staged)

    def has(self, digest: str) -> bool:
        """Whether the file with this digest is here and sound."""
        return self._seals.is_sound(self._blobs.path(digest), digest)

    @contextmanager
    def receiving(self, digest: str) -> Generator[Upload]:
        """Write the file with this digest into the block's Upload; at the block's end it is in the store, durable.

        Raises IntegrityError if what was written has another digest, TooLargeError; then nothing is left of it. A file
        that no model needs is removed by `collect`.
        """
        path = self._blobs.path(digest)
        with self._blobs.drafting(secrets.token_hex(16), 0) as folder:
            draft = folder / "upload"
            try:
                with draft.open("xb", buffering=0) as target:
                    upload = Upload(target.fileno(), self._settings.max_file_bytes)
                    yield upload
                if upload.digest != digest:
                    raise IntegrityError("what was sent does not match its digest", hint="send it again")
                draft.chmod(0o400)
                staged = stage("", "", draft, digest, "copied")
                with self._blobs.guard(is_alone=False):
                    if not self._seals.is_sound(path, digest):
                        self._blobs.place(draft, digest)
                        self._seals.keep(staged.seal)
            finally:
                draft.unlink(missing_ok=True)  # an upload that broke off starts anew

    def _recognised(self, files: Mapping[str, str]) -> tuple[str, list[Staged]]:
        """The format of the received files, and each with its role, weights first."""
        staged: list[Staged] = []
        format = None
        for name, digest in files.items():
            path = self._blobs.path(digest)
            if not self.has(digest):
                raise NotFoundError(f"the file {plain_text(name)} was not sent", hint="send it first", param="files")
            descriptor = os.open(path, os.O_RDONLY)
            try:
                head, seal = os.pread(descriptor, 16, 0), seals.make(descriptor, digest)
            finally:
                os.close(descriptor)
            found = formats.recognise(head, name)
            if found is not None and format not in (None, found):
                raise InputError("a model is made of weights of one format, and what belongs to it", param="files")
            format = format or found
            role = "weights" if found else ""
            staged.insert(
                0 if found else len(staged),
                Staged(FileEntry(role, plain_text(name), seal.size_bytes, digest), path, "present", seal),
            )
        if len({file.entry.name for file in staged}) < len(files):
            raise InputError("two files have the same name", param="files")
        if format is None:
            raise InputError("none of the files is a model", hint=f"known: {', '.join(formats.names())}", param="files")
        companions = formats.find(format).COMPANIONS
        weights = sorted((file for file in staged if file.entry.role), key=lambda file: file.entry.name)
        staged[: len(weights)] = weights
        for index, file in enumerate(staged[len(weights) :], start=len(weights)):
            if file.entry.name not in companions:
                raise InputError(
                    f"{file.entry.name} is no part of a {format} model",
                    hint=f"beside the weights: {', '.join(companions)}",
                    param="files",
                )
            entry = msgspec.structs.replace(file.entry, role=companions[file.entry.name])
            staged[index] = msgspec.structs.replace(file, entry=entry)
        return format, staged

    def _commit(self, manifest: Manifest, staged: list[Staged]) -> Named:
        with self._blobs.guard(is_alone=False):
            self._check_free(manifest)
            for entry in manifest.files:
                if not self._blobs.path(entry.digest).exists():
                    raise ConflictError("a file of the model was removed meanwhile", hint="try again")
            return self._manifests.keep(manifest, [file.seal for file in staged])

    def _check_free(self, manifest: Manifest) -> None:
        """Raises ConflictError if the name stands for other weights. One that cannot be trusted may be replaced."""
        named = self._manifests.named(manifest.name)
        if named is None:
            return
        try:
            other = self._manifests.read(named.digest)
        except IntegrityError:
            return
        if _weights(other) != _weights(manifest):
            raise ConflictError(
                f"another model is called {manifest.name} already", hint="remove it first, or choose another name"
            )


class Upload:
    """An open draft that counts and hashes what is written to it."""

    def __init__(self, descriptor: int, max_bytes: int) -> None:
        self._descriptor = descriptor
        self._left = max_bytes
        self._total = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return f"sha256:{self._total.hexdigest()}"

    def write(self, piece: bytes) -> None:
        """Raises TooLargeError, ResourceError."""
        self._left -= len(piece)
        if self._left < 0:
            raise TooLargeError("the file is larger than any that may be stored", hint="see store.max_file_bytes")
        self._total.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]


def _weights(manifest: Manifest) -> set[str]:
    return {entry.digest for entry in manifest.files if entry.role == "weights"}
