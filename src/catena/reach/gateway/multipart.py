"""Forms with files (multipart/form-data, RFC 7578), read as they arrive: fields into memory, files onto the disk."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from catena.core.errors import InputError, ResourceError
from catena.core.ids import new_id
from catena.reach.gateway.exchange import CLOSE, Exchange
from catena.reach.gateway.failures import HttpError

MAX_PARTS = 64
MAX_HEADERS = 8  # per part
MAX_HEADER_BYTES = 4 << 10  # each
PIECE_BYTES = 1 << 20
# The parser's warnings quote bytes of what was sent; its errors say the same to us alone.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Sink(Protocol):
    """What takes the content of a file as it arrives; these block, and raise OSError."""

    def write(self, data: bytes, /) -> int: ...

    def close(self) -> None: ...


class Drafts(Protocol):
    """How files lie on the disk while they arrive; these block."""

    def create(self, path: Path, /) -> Sink: ...

    def discard(self, path: Path, /) -> None: ...


class _Plain:
    """They lie as they are."""

    def create(self, path: Path) -> Sink:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def discard(self, path: Path) -> None:
        path.unlink(missing_ok=True)


class UploadedFile(Struct, frozen=True):
    """A file of a form, whole, at `path`; `filename` and `content_type` as the sender called it, maybe empty.

    Not synchronised to the disk yet, and removed with the form unless it was moved away.
    """

    path: Path
    filename: str
    content_type: str
    size_bytes: int


class Form(Struct, frozen=True):
    """Fields by name, each value in the order sent, and files by the name of their field."""

    fields: dict[str, list[str]]
    files: dict[str, UploadedFile]


@asynccontextmanager
async def read_form(
    exchange: Exchange,
    *,
    max_field_bytes: int,
    max_file_bytes: int,
    folder: Path,
    max_files: int = 1,
    drafts: Drafts | None = None,
) -> AsyncGenerator[Form]:
    """The form in the body of a request. Its files lie in `folder` (which must exist) until the block ends, as they
    are or as `drafts` writes them.

    All fields together take at most `max_field_bytes`, each file at most `max_file_bytes`.
    Raises HttpError 415 for another media type, 413 for too much of anything, 400 for what is not a form; ResourceError
    when the disk takes no more; and what Exchange.read raises.
    """
    reader = _Reader(_boundary(exchange), folder, max_field_bytes, max_file_bytes, max_files, drafts or _Plain())
    limit = max_files * max_file_bytes + max_field_bytes + MAX_PARTS * MAX_HEADERS * MAX_HEADER_BYTES
    try:
        await exchange.read(reader.feed, limit)
        yield reader.form()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(reader.remove)


def _boundary(exchange: Exchange) -> bytes:
    kind, options = parse_options_header(exchange.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise HttpError(
            415,
            "the body must be a form with files",
            code="unsupported_media_type",
            hint="send Content-Type: multipart/form-data",
            headers=CLOSE,
        )
    if exchange.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "compressed bodies are not read", code="unsupported_encoding", hint="send it as it is")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise _malformed("its Content-Type has no boundary of 1 to 70 characters")
    return boundary


class _Reader:
    """Takes pieces of the body; what the parser finds in each is worked off before the next."""

    def __init__(
        self,
        boundary: bytes,
        folder: Path,
        max_field_bytes: int,
        max_file_bytes: int,
        max_files: int,
        store: Drafts,
    ) -> None:
        self._store = store
        self._folder = folder
        self._max_field_bytes = max_field_bytes
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._fields: dict[str, list[str]] = {}
        self._files: dict[str, UploadedFile] = {}
        self._drafts: list[Path] = []
        self._field_bytes = 0
        self._num_parts = 0
        self._part = _Part()
        self._is_whole = False
        self._found: list[tuple[str, bytes]] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": lambda: self._found.append(("begin", b"")),
                "on_header_field": lambda data, start, end: self._found.append(("name", data[start:end])),
                "on_header_value": lambda data, start, end: self._found.append(("value", data[start:end])),
                "on_header_end": lambda: self._found.append(("header", b"")),
                "on_headers_finished": lambda: self._found.append(("headers", b"")),
                "on_part_data": lambda data, start, end: self._found.append(("data", data[start:end])),
                "on_part_end": lambda: self._found.append(("end", b"")),
                "on_end": lambda: self._found.append(("whole", b"")),
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    async def feed(self, piece: bytes) -> None:
        """Read one more piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed("its parts are not framed as they should be") from None
        found = self._found[:]
        self._found.clear()
        try:
            for kind, data in found:
                await self._step(kind, data)
        except OSError as error:
            raise ResourceError(
                f"the file cannot be written: {error.strerror}",
                hint="free space on the disk that holds CATENA_HOME",
            ) from error

    def form(self) -> Form:
        """Everything, once the body has ended. Raises HttpError for one that was cut."""
        if not self._is_whole:
            raise _malformed("it ends before its last boundary")
        return Form(self._fields, self._files)

    def remove(self) -> None:
        """Close and remove what is still here of the files."""
        if self._part.file is not None:
            with suppress(OSError):  # of a full disk, which was told already
                self._part.file.close()
        for draft in self._drafts:
            self._store.discard(draft)

    async def _step(self, kind: str, data: bytes) -> None:
        part = self._part
        match kind:
            case "begin":
                self._num_parts += 1
                if self._num_parts > MAX_PARTS:
                    raise _too_large(f"the form has more than {MAX_PARTS} parts")
                self._part = _Part()
            case "name":
                part.header_name += data
            case "value":
                part.header_value += data
            case "header":
                part.headers[part.header_name.decode("latin-1").lower()] = part.header_value.decode("latin-1")
                part.header_name = part.header_value = b""
            case "headers":
                await self._open(part)
            case "data":
                await self._keep(part, data)
            case "end":
                await self._close(part)
            case _:
                self._is_whole = True

    async def _open(self, part: _Part) -> None:
        kind, options = parse_options_header(part.headers.get("content-disposition", ""))
        if kind != b"form-data" or not options.get(b"name"):
            raise _malformed("a part has no Content-Disposition with a name")
        part.name = _text(options[b"name"])
        if b"filename" not in options:
            return
        if part.name in self._files:
            raise InputError(f"{part.name} was sent twice", param=part.name)
        if len(self._files) >= self._max_files:
            raise _too_large(f"the form has more files than {self._max_files}")
        part.filename = _text(options[b"filename"])
        path = self._folder / new_id("draft")
        self._drafts.append(path)
        part.file = await anyio.to_thread.run_sync(self._store.create, path)

    async def _keep(self, part: _Part, data: bytes) -> None:
        part.num_bytes += len(data)
        part.waiting += data
        if part.file is None:
            self._field_bytes += len(data)
            if self._field_bytes > self._max_field_bytes:
                raise _too_large(f"the fields of the form are larger than {self._max_field_bytes} bytes")
        elif part.num_bytes > self._max_file_bytes:
            raise _too_large(f"the file is larger than {self._max_file_bytes} bytes", part.name)
        elif len(part.waiting) >= PIECE_BYTES:
            await anyio.to_thread.run_sync(part.file.write, bytes(part.waiting))
            part.waiting.clear()

    async def _close(self, part: _Part) -> None:
        if part.file is None:
            self._fields.setdefault(part.name, []).append(_text(bytes(part.waiting)))
            return
        await anyio.to_thread.run_sync(_finish, part.file, bytes(part.waiting))
        content_type = part.headers.get("content-type", "")
        self._files[part.name] = UploadedFile(self._drafts[-1], part.filename, content_type, part.num_bytes)
        part.file, part.waiting = None, bytearray()


class _Part:
    """One part while it is read."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.header_name = self.header_value = b""
        self.name = self.filename = ""
        self.file: Sink | None = None
        self.waiting = bytearray()
        self.num_bytes = 0


def _finish(file: Sink, rest: bytes) -> None:
    try:
        file.write(rest)
    finally:
        file.close()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _malformed("a name or field in it is not UTF-8") from None


def _malformed(why: str) -> HttpError:
    return HttpError(400, f"the body is not a form: {why}", code="invalid_form", headers=CLOSE)


def _too_large(message: str, param: str | None = None) -> HttpError:
    error = HttpError(413, message, code="too_large", headers=CLOSE)
    error.param = param
    return error
