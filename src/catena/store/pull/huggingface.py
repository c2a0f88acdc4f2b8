"""The Hugging Face hub, or what speaks like it: HF_ENDPOINT, HF_TOKEN or the token file, HF_HUB_OFFLINE.

Source of addresses, headers and variables: huggingface_hub 2.4.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, urljoin

import msgspec
from msgspec import Struct

from catena.core.errors import (
    CatenaError,
    ForbiddenError,
    NetworkError,
    NotFoundError,
    TooLargeError,
    UnauthenticatedError,
)
from catena.store.formats import plain_text
from catena.store.pull.hub import Hub, Listing, Reference, Refused, RemoteFile
from catena.store.pull.web import Web, links, origin

ENDPOINT = "https://huggingface.co"
MAX_INFO_BYTES = 8 << 20
MAX_PAGE_BYTES = 16 << 20
MAX_PAGES = 1000
_TRUE = frozenset({"1", "on", "yes", "true"})


class _Card(Struct):
    license: str | list[str] | None = None
    license_name: str | None = None


class _Info(Struct):
    """What is read of a model's description."""

    sha: str
    card: _Card | None = msgspec.field(name="cardData", default=None)


class _Large(Struct):
    """A file that git keeps elsewhere: the digest and size of its content."""

    oid: str
    size: int


class _Entry(Struct):
    """One line of a tree."""

    type: str
    path: str
    oid: str = ""
    size: int = 0
    lfs: _Large | None = None


def connect() -> Hub:
    """The hub that the environment names, with the user's token. Raises ConfigError."""
    token = _token()
    return Hub(
        endpoint=(os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"),
        variable="HF_ENDPOINT",
        token_variable="HF_TOKEN",  # noqa: S106 - the name of a variable
        token=token,
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE, or TRANSFORMERS_OFFLINE in its absence, is set."""
    return _is_true(os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE"))


def list_files(web: Web, reference: Reference, max_files: int) -> Listing:
    """The files of the commit that the revision means now, `main` if none is given.

    Raises NotFoundError, ForbiddenError, UnauthenticatedError, TooLargeError, and what Web raises.
    """
    endpoint = web.hub.endpoint
    revision = quote(reference.revision or "main", safe="")
    try:
        info, _ = web.read(f"{endpoint}/api/models/{reference.repo}/revision/{revision}", _Info, MAX_INFO_BYTES)
        if len(info.sha) != 40 or not info.sha.isalnum():
            raise NetworkError(f"{web.hub.host} names no commit", hint="does HF_ENDPOINT name a hub?")
        entries = _tree(web, reference, info.sha, max_files)
    except Refused as refused:
        raise refusal(web.hub, reference, refused) from None
    files = tuple(
        RemoteFile(
            path=entry.path,
            url=f"{endpoint}/{reference.repo}/resolve/{info.sha}/{quote(entry.path)}",
            size_bytes=entry.lfs.size if entry.lfs else entry.size,
            sha256=entry.lfs.oid.lower() if entry.lfs else None,
            git_sha1=None if entry.lfs else entry.oid.lower(),
        )
        for entry in entries
        if entry.type == "file"
    )
    return Listing(info.sha, files, _licence(info.card))


def refusal(hub: Hub, reference: Reference, refused: Refused) -> CatenaError:
    """What the hub's codes mean; it answers 401 also for what does not exist, to those it does not know."""
    repo, page = reference.repo, f"{hub.endpoint}/{reference.repo}"
    if refused.code == "GatedRepo":
        ask = f"open {page}, accept its terms"
        return ForbiddenError(
            f"{repo} is gated: its owner wants its terms accepted first",
            hint=f"{ask}, then pull again" if hub.token else f"{ask}, set HF_TOKEN to a token of yours, and pull again",
        )
    if refused.code == "RevisionNotFound":
        return NotFoundError(f"{repo} has no revision {reference.revision}", hint=f"see {page}/tree/main")
    if refused.code == "EntryNotFound":
        return NotFoundError(f"a file of {repo} is gone", hint="pull again: it may have been renamed")
    if refused.status == 401 and hub.token and "credentials" in refused.message.lower():
        return UnauthenticatedError(f"{hub.host} does not know the token", hint="set HF_TOKEN to a valid token")
    if refused.status in (401, 404):
        hint = "check its name" if hub.token else "check its name; if it is private, set HF_TOKEN"
        return NotFoundError(f"{hub.host} shows no model {repo}", hint=hint)
    if refused.status == 403:
        return ForbiddenError(f"{hub.host} does not let you have {repo}: {refused.message}", hint=f"see {page}")
    return NetworkError(f"{hub.host} answers {refused.status}: {refused.message}", hint="pull again later")


def _tree(web: Web, reference: Reference, commit: str, max_files: int) -> list[_Entry]:
    """Every entry of the commit's tree, page by page."""
    url: str | None = f"{web.hub.endpoint}/api/models/{reference.repo}/tree/{commit}?recursive=true&expand=false"
    entries: list[_Entry] = []
    for _ in range(MAX_PAGES):
        if url is None:
            return entries
        page, headers = web.read(url, list[_Entry], MAX_PAGE_BYTES)
        entries += page
        if len(entries) > max_files:
            raise TooLargeError(f"{reference.repo} holds more than {max_files} files", hint="see store.max_entries")
        following = links(headers.get("link", "")).get("next")
        url = urljoin(url, following) if following else None
        if url is not None and origin(url) != origin(web.hub.endpoint):
            raise NetworkError(
                f"{web.hub.host} continues its list on another host", hint="does HF_ENDPOINT name a hub?"
            )
    raise TooLargeError(f"{reference.repo} is listed on more than {MAX_PAGES} pages")


def _licence(card: _Card | None) -> str | None:
    """The licence that the card states; for `other` the name it gives."""
    if card is None or not card.license:
        return None
    stated = card.license if isinstance(card.license, str) else ", ".join(card.license)
    return plain_text(card.license_name or stated if stated == "other" else stated)


def _token() -> str | None:
    """HF_TOKEN, else the file that `hf auth login` writes, unless the user forbade its use."""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    if _is_true(os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()
    path = Path(os.environ.get("HF_TOKEN_PATH") or folder / "token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in _TRUE
