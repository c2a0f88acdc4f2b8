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

WHEEL = "wheel:"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9._+!-]*)")


class InnerFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file inside a package: its role and name in the manifest, its path in the archive, bytes and digest."""

    role: str
    name: str
    inner: str
    size_bytes: int
    digest: str


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
        """The package as pip wants it named: NAME==VERSION."""
        return self.source.removeprefix(WHEEL)


@functools.cache
def catalogue() -> tuple[Offer, ...]:
    """Every offer, in the order in which they should be shown."""
    text = resources.files("catena.store").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["model"], tuple[Offer, ...])


def offer_of(source: str) -> Offer | None:
    """The offer that `source` names, by its name or as `wheel:NAME==VERSION`; None if it has neither form.

    Raises UnsupportedError for a package whose files nobody pinned, NotFoundError if one package holds several.
    """
    for offer in catalogue():
        if offer.name == source:
            return offer
    if not source.startswith(WHEEL):
        return None
    wanted = _normal(source.removeprefix(WHEEL))
    found = [offer for offer in catalogue() if _normal(offer.requirement) == wanted]
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


def _normal(requirement: str) -> str:
    """Name and version with the name normalised (https://packaging.python.org/specifications/name-normalization/)."""
    shape = _REQUIREMENT.fullmatch(requirement)
    if shape is None:
        raise UnsupportedError(
            f"{requirement!r} does not name one version of one package", hint="write wheel:NAME==VERSION"
        )
    return f"{re.sub(r'[-_.]+', '-', shape[1]).lower()}=={shape[2]}"
