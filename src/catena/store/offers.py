"""The models that Catena knows by name: which package each comes in, and the pinned digest of every file inside."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from importlib import resources

import msgspec
from msgspec import Struct

from catena.core.errors import NotFoundError, UnsupportedError

WHEEL, NPM = "wheel:", "npm:"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9._+!-]*)")
_NPM_REQUIREMENT = re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@[0-9][A-Za-z0-9.+-]*")


class InnerFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file inside a package: its role and name in the manifest, its path in the archive, bytes and digest.

    `source` and `download_bytes` are of its package, where that is another than the offer's own.
    """

    role: str
    name: str
    inner: str
    size_bytes: int
    digest: str
    source: str = ""
    download_bytes: int = 0


class Offer(Struct, frozen=True, forbid_unknown_fields=True):
    """A model that can be pulled by name. `facts` are those that its files do not say themselves."""

    name: str
    source: str
    download_bytes: int
    format: str
    licence: str
    about: str
    files: tuple[InnerFile, ...]
    facts: dict[str, str | int | float | bool] = {}

    @property
    def requirement(self) -> str:
        """The package as pip wants it named, NAME==VERSION, or npm, NAME@VERSION."""
        return self.source.partition(":")[2]

    @property
    def packages(self) -> tuple[Offer, ...]:
        """What comes in each package, this offer's own first."""
        found: dict[str, list[InnerFile]] = {self.source: []}
        for file in self.files:
            found.setdefault(file.source or self.source, []).append(file)
        return tuple(
            msgspec.structs.replace(
                self,
                source=source,
                files=tuple(files),
                download_bytes=self.download_bytes if source == self.source else files[0].download_bytes,
            )
            for source, files in found.items()
        )


@functools.cache
def catalogue() -> tuple[Offer, ...]:
    """Every offer, in the order in which they should be shown."""
    text = resources.files("catena.store").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["model"], tuple[Offer, ...])


def offer_of(source: str) -> Offer | None:
    """The offer that `source` names: by its name, as `wheel:NAME==VERSION` or `npm:NAME@VERSION`; else None.

    Raises UnsupportedError for a package whose files nobody pinned, NotFoundError if one package holds several.
    """
    for offer in catalogue():
        if offer.name == source:
            return offer
    if not source.startswith((WHEEL, NPM)):
        return None
    wanted = _normal(source)
    found = [offer for offer in catalogue() if _normal(offer.source) == wanted]
    if len(found) == 1:
        return found[0]
    known = ", ".join(offer.name for offer in found or catalogue())
    if found:
        raise NotFoundError(f"{source} holds several models", hint=f"name one of them: {known}")
    raise UnsupportedError(
        f"{source} is not in the catalogue, so there is no digest to check it against",
        hint=f"known by name: {known}; or unpack the package yourself and pull the file",
    )


def near(text: str) -> list[str]:
    """Names of offers that resemble `text`."""
    return difflib.get_close_matches(text.lower(), [offer.name for offer in catalogue()], n=3, cutoff=0.5)


def _normal(source: str) -> str:
    """`source` with the name of a Python package normalised, as the index that serves it does.

    https://packaging.python.org/specifications/name-normalization/; names of npm are exact.
    """
    kind, _, requirement = source.partition(":")
    if kind == "npm":
        if not _NPM_REQUIREMENT.fullmatch(requirement):
            raise UnsupportedError(
                f"{requirement!r} does not name one version of one package", hint="write npm:NAME@VERSION"
            )
        return source
    shape = _REQUIREMENT.fullmatch(requirement)
    if shape is None:
        raise UnsupportedError(
            f"{requirement!r} does not name one version of one package", hint="write wheel:NAME==VERSION"
        )
    return f"{WHEEL}{re.sub(r'[-_.]+', '-', shape[1]).lower()}=={shape[2]}"
