"""A model from a hub: looks it up, chooses its files, brings them into a folder of drafts, whole and checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from catena.core.errors import CatenaError, IntegrityError, ResourceError, TooLargeError
from catena.core.manifest import FileEntry, Provenance
from catena.core.settings import StoreSettings
from catena.core.units import bytes_text
from catena.store import seals
from catena.store.pull import choice, local
from catena.store.pull.hub import Reference, Refused, RemoteFile, speaker
from catena.store.pull.ranged import Download
from catena.store.pull.staging import Staged, stage
from catena.store.pull.web import Web
from catena.store.rows import Report

# What must be left over on the disk when all files have come: the database and the log go on growing.
SPARE_BYTES = 64 << 20


class Repository:
    """One model on a hub at one commit."""

    def __init__(self, web: Web, reference: Reference, settings: StoreSettings) -> None:
        self._web = web
        self._settings = settings
        self._speaker = speaker(reference.scheme)
        listing = self._speaker.list_files(web, reference, settings.max_entries)
        self.reference = reference
        self.source = reference.at(listing.commit)
        self.licence = listing.licence
        self.pick = choice.choose(reference, listing)
        for _, file in self.pick.files:
            if file.size_bytes > settings.max_file_bytes:
                raise TooLargeError(f"{file.path} has {file.size_bytes} bytes", hint="see store.max_file_bytes")
            if not (file.sha256 or file.git_sha1):
                raise IntegrityError(f"{web.hub.host} states no digest of {file.path}, so it could not be checked")

    @property
    def name(self) -> str:
        """What a name is made of when nobody chose one: the file of weights if that has a name of its own."""
        weights = self.pick.weights[0][0]
        return weights if self.pick.kind == "gguf" else self.reference.repo.partition("/")[2]

    @property
    def weights(self) -> list[str]:
        """The digests of the weights, as far as the hub states them in the store's form."""
        return [f"sha256:{file.sha256}" for _, file in self.pick.weights]

    @property
    def provenance(self) -> Provenance:
        """Hub, repository, commit and what was asked for; the path of the first file of weights."""
        return Provenance(self.source, inner_path=self.pick.weights[0][1].path)

    def fetch(self, folder: Path, kept: Callable[[str], Path | None], report: Report) -> tuple[str, list[Staged], int]:
        """The format, every file as a draft in `folder`, and the bytes that were downloaded for it.

        `kept` gives the path of a file that the store has already, by its SHA-256 in hex. Raises what Download and
        `local.choose` raise; ResourceError before anything is fetched if the disk is too small.
        """
        held = {file.key: path.resolve() for _, file in self.pick.files if file.sha256 and (path := kept(file.sha256))}
        missing = {file.key: file for _, file in self.pick.files if file.key not in held}
        # Small files first: a model that nobody can use shows before its weights are paid for.
        files = sorted(missing.values(), key=lambda file: file.size_bytes)

        def refusal(refused: Refused) -> CatenaError:
            return self._speaker.refusal(self._web.hub, self.reference, refused)

        download = Download(self._web, files, folder, self.reference.repo, refusal)
        try:
            _check_room(folder, files, download.bytes_held)
            fetched = {file.remote.key: file for file in download.run(report)}
        finally:
            download.close()
        place = folder / "files"
        shutil.rmtree(place, ignore_errors=True)
        digests: dict[str, str] = {}
        for name, file in self.pick.files:
            path = place / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if file.key in held:
                path.symlink_to(held[file.key])
                digests[name] = f"sha256:{file.sha256}"
            else:
                fetched[file.key].path.chmod(0o400)
                os.link(fetched[file.key].path, path)
                digests[name] = fetched[file.key].digest
        chosen = local.choose(place)
        staged = [
            _kept(role, name, path, digests[name])
            if path in held.values()
            else stage(role, name, path, digests[name], "copied")
            for role, name, path in chosen.files
        ]
        return chosen.format, staged, download.bytes_downloaded


@contextmanager
def opened(reference: Reference, settings: StoreSettings) -> Generator[Repository]:
    """The repository that `reference` names, as its hub shows it now. Raises NotFoundError, ForbiddenError,
    UnauthenticatedError, InputError, UnsupportedError, TooLargeError, NetworkError, BusyError, ConfigError."""
    web = Web(speaker(reference.scheme).connect())
    try:
        yield Repository(web, reference, settings)
    finally:
        web.close()


def _kept(role: str, name: str, path: Path, digest: str) -> Staged:
    """A file that is in the store already, as part of this model."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        seal = seals.make(descriptor, digest)
    finally:
        os.close(descriptor)
    return Staged(FileEntry(role, name, seal.size_bytes, digest), path, "present", seal)


def _check_room(folder: Path, files: list[RemoteFile], held_bytes: int) -> None:
    """Raises ResourceError if what is still to come does not fit on the disk."""
    needed = sum(file.size_bytes for file in files) - held_bytes
    free = shutil.disk_usage(folder).free
    if needed > max(0, free - SPARE_BYTES):
        raise ResourceError(
            f"the model needs {bytes_text(needed)} more, and the disk has {bytes_text(free)} free",
            hint="`catena gc` removes what no model needs; or give CATENA_HOME a larger disk",
        )
