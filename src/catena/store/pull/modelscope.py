"""The ModelScope hub, or what speaks like it: MODELSCOPE_ENDPOINT (or MODELSCOPE_DOMAIN), MODELSCOPE_API_TOKEN.

Source of addresses, fields and variables: modelscope_hub of 2026-11, https://github.com/modelscope/modelscope_hub.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlencode

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
from catena.store.pull.web import Web

ENDPOINT = "https://modelscope.cn"
MAX_INFO_BYTES = 8 << 20
MAX_LIST_BYTES = 64 << 20


class _Committer(Struct):
    id: str | None = msgspec.field(name="Id", default=None)
    short_id: str | None = msgspec.field(name="ShortId", default=None)


class _File(Struct):
    """One line of a list; `revision` is the commit that changed the file last."""

    path: str = msgspec.field(name="Path")
    type: str = msgspec.field(name="Type", default="blob")
    size: int = msgspec.field(name="Size", default=0)
    sha256: str | None = msgspec.field(name="Sha256", default=None)
    revision: str | None = msgspec.field(name="Revision", default=None)


class _Files(Struct):
    files: list[_File] | None = msgspec.field(name="Files", default=None)
    committer: _Committer | None = msgspec.field(name="LatestCommitter", default=None)


class _Info(Struct):
    licence: str | None = msgspec.field(name="License", default=None)


class _Listed(Struct):
    data: _Files | None = msgspec.field(name="Data", default=None)


class _Described(Struct):
    data: _Info | None = msgspec.field(name="Data", default=None)


def connect() -> Hub:
    """The hub that the environment names, with the user's token. Raises ConfigError."""
    named = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN", "").strip() or ENDPOINT
    token = os.environ.get("MODELSCOPE_API_TOKEN", "").strip() or None
    return Hub(
        endpoint=(named if "://" in named else f"https://{named}").rstrip("/"),
        variable="MODELSCOPE_ENDPOINT",
        token_variable="MODELSCOPE_API_TOKEN",  # noqa: S106 - the name of a variable
        token=token,
        # Older addresses there know the cookie, newer ones the header; the hub's own client sends both.
        headers={"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {},
    )


def is_offline() -> bool:
    """ModelScope has no variable for that."""
    return False


def list_files(web: Web, reference: Reference, max_files: int) -> Listing:
    """The files at the revision, `master` if none is given; each at the commit that changed it last.

    Raises NotFoundError, ForbiddenError, UnauthenticatedError, TooLargeError, and what Web raises.
    """
    base = f"{web.hub.endpoint}/api/v1/models/{reference.repo}"
    revision = reference.revision or "master"
    try:
        described, _ = web.read(f"{base}?{urlencode({'Revision': revision})}", _Described, MAX_INFO_BYTES)
        query = urlencode({"Revision": revision, "Recursive": "True"})
        listed, _ = web.read(f"{base}/repo/files?{query}", _Listed, MAX_LIST_BYTES)
    except Refused as refused:
        raise refusal(web.hub, reference, refused) from None
    info, found = described.data, listed.data
    if found is None or found.files is None:  # with this, not with a status, it answers for an unknown revision
        raise NotFoundError(
            f"{reference.repo} has no revision {revision}", hint=f"see {web.hub.endpoint}/models/{reference.repo}/files"
        )
    if len(found.files) > max_files:
        raise TooLargeError(f"{reference.repo} holds more than {max_files} files", hint="see store.max_entries")
    files = [file for file in found.files if file.type != "tree"]
    commit = _commit(reference, found.committer, files)
    return Listing(commit, tuple(_remote(base, commit, file) for file in files), _licence(info))


def refusal(hub: Hub, reference: Reference, refused: Refused) -> CatenaError:
    """What the hub's answers mean."""
    repo, page = reference.repo, f"{hub.endpoint}/models/{reference.repo}"
    if refused.status == 401 and hub.token:
        return UnauthenticatedError(
            f"{hub.host} does not know the token", hint="set MODELSCOPE_API_TOKEN to a valid token"
        )
    if refused.status in (401, 403):
        ask = f"open {page}, apply for access or accept its terms"
        return ForbiddenError(
            f"{repo} is private or gated",
            hint=f"{ask}, then pull again" if hub.token else f"{ask}, set MODELSCOPE_API_TOKEN, and pull again",
        )
    if refused.status == 404:
        hint = "check its name" if hub.token else "check its name; if it is private, set MODELSCOPE_API_TOKEN"
        return NotFoundError(f"{hub.host} shows no model {repo}", hint=hint)
    return NetworkError(f"{hub.host} answers {refused.status}: {refused.message}", hint="pull again later")


def _commit(reference: Reference, committer: _Committer | None, files: list[_File]) -> str:
    """The commit that the revision means: stated in full, or by its first digits, which a file changed last completes.

    Where no file does, the short form stands: content is pinned by each file's own commit and digest all the same.
    """
    if reference.revision is not None and reference.is_pinned:
        return reference.revision
    head = (committer.id or committer.short_id or "") if committer else ""
    whole = [file.revision for file in files if file.revision and head and file.revision.startswith(head)]
    commit = whole[0] if whole else head
    return commit if commit.isalnum() else "unknown"


def _remote(base: str, commit: str, file: _File) -> RemoteFile:
    revision = file.revision or commit
    query = urlencode({"Revision": revision, "FilePath": file.path}, quote_via=quote)
    sha256 = file.sha256.lower() if file.sha256 else None
    return RemoteFile(file.path, f"{base}/repo?{query}", file.size, sha256)


def _licence(info: _Info | None) -> str | None:
    return plain_text(info.licence) if info and info.licence else None
