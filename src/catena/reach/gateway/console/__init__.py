"""The console: the web page that the gateway serves, held in memory, with the strictest headers it can live under."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from msgspec import Struct

# The page may load scripts, styles, pictures and data from its own origin, and nothing else from anywhere; the DOM is
# built by script without any sink that takes HTML, which `require-trusted-types-for` turns from a habit into a law.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=(), interest-cohort=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
)
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
PAGES = frozenset({"/", "/receipts", "/machine"})


class Answer(Struct, frozen=True):
    """What to send: status, headers (names in lower case, without content-length), body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class File(Struct, frozen=True):
    """One file of the console, ready to be sent."""

    content_type: str
    etag: str
    body: bytes


class Console:
    """All files of the console, read once. Pages name their files under `/console/<digest>/`, cached for ever."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        whole = hashlib.sha256()
        for name, body in sorted(files.items()):
            whole.update(f"{name}\0{len(body)}\0".encode() + body)
        self.digest = whole.hexdigest()[:16]
        self._files = {name: _file(name, body) for name, body in files.items() if name != "index.html"}
        self._page = _file("index.html", self._fill(files["index.html"].decode()).encode())

    @classmethod
    def open(cls) -> Console:
        """The console that comes with this package."""
        return cls({entry.name: entry.read_bytes() for entry in _static() if _suffix(entry.name) in CONTENT_TYPES})

    def find(self, path: str, if_none_match: str | None = None) -> Answer | None:
        """The answer to GET `path` (decoded, without query); None where the console has nothing.

        `/`, `/receipts`, `/receipts/{id}` and `/machine` are the same page: its script reads the address.
        """
        if path in PAGES or _is_receipt(path):
            return _answer(self._page, ASK_AGAIN, if_none_match)
        name = path.removeprefix("/console/")
        if name == path:
            return None
        digest, _, rest = name.rpartition("/")
        file = self._files.get(rest)
        if file is None or digest not in ("", self.digest):
            return None
        return _answer(file, FOREVER if digest else ASK_AGAIN, if_none_match)

    def _fill(self, template: str) -> str:
        base = f"/console/{self.digest}"
        modules = sorted(name for name in self._files if name.endswith(".js") and name != "early.js")
        preloads = "\n  ".join(f'<link rel="modulepreload" href="{base}/{name}">' for name in modules)
        return template.replace("{base}", base).replace("{preloads}", preloads)


def _static() -> list[Traversable]:
    return [entry for entry in resources.files(__name__).joinpath("static").iterdir() if entry.is_file()]


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _file(name: str, body: bytes) -> File:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return File(CONTENT_TYPES[_suffix(name)], etag, body)


def _is_receipt(path: str) -> bool:
    parts = path.split("/")
    return len(parts) == 3 and parts[1] == "receipts" and bool(parts[2])


def _answer(file: File, cache: str, if_none_match: str | None) -> Answer:
    headers = (*HEADERS, ("content-type", file.content_type), ("cache-control", cache), ("etag", file.etag))
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    if file.etag in tags or "*" in tags:
        return Answer(304, tuple(header for header in headers if header[0] != "content-type"), b"")
    return Answer(200, headers, file.body)
