"""A hub on loopback: the HTTP APIs of Hugging Face and ModelScope as far as a pull needs them, and their mishaps.

Two ports: the hub, and the host that large files are redirected to. Every request is kept in `seen`, with the bytes of
content that were handed to the network for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret-token"
LARGE_BYTES = 1 << 10
REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 307: "Temporary Redirect", 401: "Unauthorized"}


@dataclass
class Repo:
    """One repository at one commit; content is bytes, or a path whose bytes the kernel sends."""

    files: dict[str, bytes | Path]
    commit: str = COMMIT
    branches: tuple[str, ...] = ("main", "master")
    licence: str | None = "apache-2.0"
    gate: str = ""  # "": open; "gated": terms; "private": not shown without the token
    page: int = 1000
    stated: dict[str, str] = field(default_factory=dict)  # path → SHA-256 that the listing states instead

    def size(self, path: str) -> int:
        content = self.files[path]
        return content.stat().st_size if isinstance(content, Path) else len(content)

    def sha256(self, path: str) -> str:
        if path not in self.stated:
            content = self.files[path]
            if isinstance(content, Path):
                with content.open("rb") as file:
                    self.stated[path] = hashlib.file_digest(file, "sha256").hexdigest()
            else:
                self.stated[path] = hashlib.sha256(content).hexdigest()
        return self.stated[path]

    def git_sha1(self, path: str) -> str:
        content = self.files[path]
        data = content.read_bytes() if isinstance(content, Path) else content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def is_large(self, path: str) -> bool:
        return self.size(path) >= LARGE_BYTES or path.endswith((".gguf", ".safetensors", ".onnx"))


@dataclass
class Request:
    """One request as it came in, and what became of it."""

    host: str  # "hub" or "content"
    target: str
    headers: dict[str, str]
    path: str = ""  # of the file, if one was asked for
    start: int = 0
    end: int = 0
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What goes wrong with an answer that has content: each is None or off unless it is meant."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of content, then the connection breaks
    damage_at: int | None = None  # offset in the file of a byte that is sent wrong
    ignores_range: bool = False
    lies_by: int = 0  # bytes that the stated length is off
    shifts_range: int = 0  # bytes that the stated range is off
    pause_s: float = 0.0
    rate_bytes_s: float = 0.0
    extra: int = 0  # bytes sent beyond the end


class HubServer:
    """Serves `repos` by name until the block ends. `fault(request)` may spoil an answer; None: it goes well."""

    def __init__(self, **repos: Repo) -> None:
        self.repos = dict(repos)
        self.seen: list[Request] = []
        self.fault: Callable[[Request], Fault | None] = lambda _: None
        self.redirects = True
        self.redirect_to = ""  # another place than the content host
        self.expires = False  # addresses at the content host hold for one request
        self.line_bytes_s = 0.0  # what all connections together may send, 0: as much as they can
        self._free_s = 0.0
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self._hub = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._content = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._hub.getsockname()[1]}"
        self.content_url = f"http://127.0.0.1:{self._content.getsockname()[1]}"
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        for name, server in (("hub", self._hub), ("content", self._content)):
            threading.Thread(target=self._accept, args=(name, server), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._hub, self._content):
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        with self._lock:
            for connection in self._open:
                connection.close()

    def of(self, path: str) -> list[Request]:
        """The requests for the content of one file that brought some."""
        return [request for request in self.seen if request.path == path and request.sent]

    def sent_twice(self, path: str) -> int:
        """Bytes of a file that were sent again, beyond its size."""
        return max(0, sum(request.sent for request in self.of(path)) - self._find(path).size(path))

    def _find(self, path: str) -> Repo:
        return next(repo for repo in self.repos.values() if path in repo.files)

    def _accept(self, name: str, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(name, connection), daemon=True).start()

    def _serve(self, host: str, connection: socket.socket) -> None:
        try:
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                line, *lines = head.decode("latin-1").split("\r\n")
                headers = {key.lower(): value for key, _, value in (each.partition(": ") for each in lines)}
                request = Request(host, line.split(" ")[1], headers)
                with self._lock:
                    self.seen.append(request)
                self._answer(connection, request)
        except (OSError, BrokenPipeError):
            return
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, request: Request) -> None:
        parts = urlsplit(request.target)
        path, query = unquote(parts.path), {key: value[0] for key, value in parse_qs(parts.query).items()}
        if request.host == "content":
            self._send_content(connection, request, *self._placed(path), key=request.target)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            self._hugging_face(connection, request, found[1], found[2], unquote(found[3]), query)
        elif found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)(/repo(?:/files)?)?", path):
            self._model_scope(connection, request, found[1], found[2] or "", query)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(connection, request, found[1], found[3])
        else:
            self._json(connection, request, 404, {"error": "Not Found"})

    def _placed(self, path: str) -> tuple[Repo, str]:
        org, name, file = path.lstrip("/").split("/", 2)
        return self.repos[f"{org}/{name}"], file

    def _hugging_face(
        self, connection: socket.socket, request: Request, name: str, what: str, revision: str, query: dict[str, str]
    ) -> None:
        if (fault := self.fault(request)) and fault.status:
            return self._json(connection, request, fault.status, {"error": "a mishap"}, fault.headers)
        repo = self.repos.get(name)
        is_known = request.headers.get("authorization") == f"Bearer {TOKEN}"
        if "authorization" in request.headers and not is_known:
            said = "Invalid credentials in Authorization header"
            return self._json(connection, request, 401, {"error": said}, {"X-Error-Message": said})
        if repo is None or (repo.gate == "private" and not is_known):
            status = 404 if is_known else 401
            return self._json(
                connection, request, status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
        if revision not in (*repo.branches, repo.commit):
            said = f"Invalid rev id: {revision}"
            return self._json(connection, request, 404, {"error": said}, {"X-Error-Code": "RevisionNotFound"})
        if what == "revision":
            card = {"license": repo.licence} if repo.licence else {}
            body = {
                "_id": "1",
                "id": name,
                "sha": repo.commit,
                "gated": "auto" if repo.gate else False,
                "cardData": card,
            }
            return self._json(connection, request, 200, body)
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "docs"}]
        for path in repo.files:
            entry: dict[str, Any] = {"type": "file", "oid": "1" * 40, "size": repo.size(path), "path": path}
            if repo.is_large(path):
                entry["lfs"] = {"oid": repo.sha256(path), "size": repo.size(path), "pointerSize": 134}
            else:
                entry["oid"] = repo.git_sha1(path)
            entries.append(entry)
        first = int(query.get("cursor", "0"))
        following = {}
        if first + repo.page < len(entries):
            target = f"{self.url}/api/models/{name}/tree/{revision}?recursive=true&cursor={first + repo.page}"
            following = {"Link": f'<{target}>; rel="next"'}
        return self._json(connection, request, 200, entries[first : first + repo.page], following)

    def _resolve(self, connection: socket.socket, request: Request, name: str, path: str) -> None:
        repo = self.repos[name]
        is_known = request.headers.get("authorization") == f"Bearer {TOKEN}"
        if repo.gate and not is_known:
            return self._json(
                connection,
                request,
                401,
                {"error": "Access to this model is restricted. You must have access to it and be authenticated."},
                {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {name} is restricted."},
            )
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{repo.git_sha1(path) if not repo.is_large(path) else ""}"'}
        if repo.is_large(path) and self.redirects:
            linked = {"X-Linked-Size": str(repo.size(path)), "X-Linked-Etag": f'"{repo.sha256(path)}"'}
            return self._redirect(connection, request, name, path, {**headers, **linked})
        return self._send_content(connection, request, repo, path, headers=headers)

    def _model_scope(
        self, connection: socket.socket, request: Request, name: str, what: str, query: dict[str, str]
    ) -> None:
        if (fault := self.fault(request)) and fault.status and what != "/repo":
            return self._json(connection, request, fault.status, {"Message": "a mishap"}, fault.headers)
        repo = self.repos.get(name)
        if repo is None:
            return self._json(connection, request, 404, {"Code": 10010205001, "Message": "not found", "Success": False})
        is_known = f"m_session_id={TOKEN}" in request.headers.get("cookie", "")
        if repo.gate and not is_known:
            return self._json(
                connection, request, 403, {"Code": 10010205003, "Message": "no permission", "Success": False}
            )
        revision = query.get("Revision", "master")
        if what == "/repo":
            if self.redirects and repo.is_large(query["FilePath"]):
                return self._redirect(connection, request, name, query["FilePath"], {})
            return self._send_content(connection, request, repo, query["FilePath"])
        if not what:
            body: dict[str, Any] = {"Id": 1, "Name": name.split("/")[1], "License": repo.licence}
        elif revision not in (*repo.branches, repo.commit):
            body = {"Files": None, "IsVisual": 0, "LatestCommitter": None}
        else:
            files = [{"Name": "docs", "Path": "docs", "Type": "tree", "Size": 0, "Revision": repo.commit}]
            files += [
                {
                    "Name": path.rsplit("/", 1)[-1],
                    "Path": path,
                    "Type": "blob",
                    "Size": repo.size(path),
                    "Sha256": repo.sha256(path),
                    "IsLFS": repo.is_large(path),
                    "Revision": repo.commit if number % 2 == 0 else "f" * 40,
                }
                for number, path in enumerate(repo.files)
            ]
            body = {"Files": files, "IsVisual": 0, "LatestCommitter": {"Id": "", "ShortId": repo.commit[:8]}}
        return self._json(connection, request, 200, {"Code": 200, "Data": body, "Message": "success", "Success": True})

    def _redirect(
        self, connection: socket.socket, request: Request, name: str, path: str, headers: dict[str, str]
    ) -> None:
        signature = f"?signature={len(self.seen)}"
        place = self.redirect_to or f"{self.content_url}/{name}/{quote(path)}{signature}"
        self._json(connection, request, 302, {}, {**headers, "Location": place})

    def _json(
        self, connection: socket.socket, request: Request, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        request.status = status
        data = json.dumps(body).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        connection.sendall(_head(status, lines) + data)

    def _send_content(
        self,
        connection: socket.socket,
        request: Request,
        repo: Repo,
        path: str,
        *,
        key: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        size = repo.size(path)
        request.path, request.end = path, size
        fault = self.fault(request) or Fault()
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        lines = {"Accept-Ranges": "bytes", **(headers or {}), **fault.headers}
        if self.expires and key:
            if key in self._used:
                return self._json(connection, request, 403, {"error": "Request has expired"})
            self._used.add(key)
        if fault.pause_s:
            time.sleep(fault.pause_s)
        request.status = fault.status or 200
        if fault.status and fault.status >= 300:
            return self._json(connection, request, fault.status, {"error": "a mishap"}, fault.headers)
        if found and not fault.ignores_range:
            request.status, request.start, request.end = 206, int(found[1]), int(found[2]) + 1
            shown = request.start + fault.shifts_range
            lines["Content-Range"] = f"bytes {shown}-{request.end - 1 + fault.shifts_range}/{size}"
        lines["Content-Length"] = str(request.end - request.start + fault.lies_by + fault.extra)
        connection.sendall(_head(request.status, lines))
        end = request.end if fault.cut_after is None else min(request.end, request.start + fault.cut_after)
        content = repo.files[path]
        if isinstance(content, Path) and fault.damage_at is None and not fault.rate_bytes_s:
            self._send_file(connection, request, content, end)
        else:
            self._send_bytes(connection, request, content, end, fault)
        if fault.extra:
            connection.sendall(bytes(fault.extra))
        if fault.cut_after is not None or fault.lies_by:
            connection.shutdown(socket.SHUT_RDWR)
        return None

    def _send_file(self, connection: socket.socket, request: Request, path: Path, end: int) -> None:
        """Let the kernel send a part of a file; what it took is counted also when the peer goes away."""
        offset = request.start
        with path.open("rb") as file:
            while offset < end:
                share = end - offset
                if self.line_bytes_s:
                    share = min(share, 1 << 18)
                    self._queue(share)
                count = os.sendfile(connection.fileno(), file.fileno(), offset, share)
                offset += count
                request.sent += count

    def _queue(self, num_bytes: int) -> None:
        """Wait until the line is free for so many bytes."""
        with self._lock:
            now_s = time.monotonic()
            begin_s = max(now_s, self._free_s)
            self._free_s = begin_s + num_bytes / self.line_bytes_s
        time.sleep(max(0.0, begin_s - now_s))

    def _send_bytes(
        self, connection: socket.socket, request: Request, content: bytes | Path, end: int, fault: Fault
    ) -> None:
        data = bytearray(content.read_bytes() if isinstance(content, Path) else content)
        if fault.damage_at is not None and fault.damage_at < len(data):
            data[fault.damage_at] ^= 0xFF
        view, offset = memoryview(data), request.start
        while offset < end:
            if fault.rate_bytes_s:
                time.sleep(min(65536, end - offset) / fault.rate_bytes_s)
            count = connection.send(view[offset : min(end, offset + 65536)])
            offset += count
            request.sent += count


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Answer')}\r\n{lines}\r\n".encode()
