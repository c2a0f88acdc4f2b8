"""What hubs have in common: how a source names a model there, what a listing says, and where that of a hub comes from.

One file per hub, named after its scheme in HUBS, with `connect`, `list_files` and `refusal`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from catena.core.errors import CatenaError, InputError

if TYPE_CHECKING:
    from catena.store.pull.web import Web

# Scheme of a source → the file here that speaks to such a hub.
HUBS: Mapping[str, str] = {"hf": "huggingface", "modelscope": "modelscope"}
# Statuses of answers that may be others a little later.
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_SOURCE = re.compile(r"(?P<repo>[^@:\s]+)(?:@(?P<revision>[^:\s]+))?(?::(?P<wanted>\S+))?")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Hub(Struct, frozen=True):
    """Where a hub is, and how its user is known there: by headers for its own origin only.

    `endpoint` has no slash at its end; `variable` and `token_variable` are the settings of endpoint and token.
    """

    endpoint: str
    variable: str
    token_variable: str
    token: str | None = None
    headers: Mapping[str, str] = {}

    @property
    def host(self) -> str:
        """The host as people call it, with the port if one is named."""
        return urlsplit(self.endpoint).netloc


class Refused(Exception):
    """An answer other than success: its status, the hub's own code and message, made safe to show."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_passing(self) -> bool:
        """Whether the same request may go well a little later."""
        return self.status in RETRIED


class Reference(Struct, frozen=True):
    """A model on a hub: `revision` is a branch, tag or commit, None for the hub's default; `wanted` chooses files."""

    scheme: str
    repo: str
    revision: str | None = None
    wanted: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether the revision can only ever mean the same files."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> str:
        """The source as provenance records it."""
        return f"{self.scheme}:{self.repo}@{commit}" + (f":{self.wanted}" if self.wanted else "")


class RemoteFile(Struct, frozen=True):
    """One file: its path in the repository, address, bytes, and the digest the hub states, in lower-case hex.

    `sha256` is that of the content; files without one have `git_sha1`, that of the content as a git blob.
    """

    path: str
    url: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def key(self) -> str:
        """The digest that the hub states, of whichever kind."""
        return self.sha256 or self.git_sha1 or ""


class Listing(Struct, frozen=True):
    """A repository at one commit, and the licence on its card."""

    commit: str
    files: tuple[RemoteFile, ...]
    licence: str | None = None


class Speaker(Protocol):
    """What the file of a hub holds."""

    def connect(self) -> Hub:
        """Where the hub is and who asks, from the environment. Raises ConfigError."""
        ...

    def is_offline(self) -> bool:
        """Whether the environment says that nothing may be asked."""
        ...

    def list_files(self, web: Web, reference: Reference, max_files: int, /) -> Listing:
        """The files at the commit that the revision means now. Raises what `refusal` gives, and what Web raises."""
        ...

    def refusal(self, hub: Hub, reference: Reference, refused: Refused, /) -> CatenaError:
        """What an answer other than success means, and what to do."""
        ...


def reference_of(source: str) -> Reference | None:
    """The model that `source` names on a hub; None if it starts with no hub's scheme. Raises InputError."""
    scheme, _, rest = source.partition(":")
    if scheme not in HUBS:
        return None
    found = _SOURCE.fullmatch(rest)
    parts = found["repo"].split("/") if found else []
    if found is None or len(parts) != 2 or not all(_PART.fullmatch(part) and ".." not in part for part in parts):
        raise InputError(
            f"{source!r} names no model", hint=f"write {scheme}:ORG/REPO, then @REVISION and :QUANT at will"
        )
    revision = found["revision"]
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InputError(f"{revision!r} cannot be a revision", hint="name a branch, a tag or a commit")
    return Reference(scheme, found["repo"], revision, found["wanted"])


def speaker(scheme: str) -> Speaker:
    """The file that speaks to the hub of this scheme."""
    module: Speaker = importlib.import_module(f"catena.store.pull.{HUBS[scheme]}")  # type: ignore[assignment]
    return module
