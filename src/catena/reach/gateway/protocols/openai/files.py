"""/v1/files: files that a key leaves here for its own use, and what its batches brought."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import anyio.to_thread

from catena.core.errors import ConflictError, InputError
from catena.reach.batches import StoredFile
from catena.reach.gateway.answering import until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.multipart import Form, read_form
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.pages import is_rising, page, runner
from catena.reach.gateway.wire import unknown_field

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
MAX_ROWS = 10_000
MAX_FIELD_BYTES = 64 << 10
MAX_NAME_CHARS = 255
MIN_KEEP_S, MAX_KEEP_S = 3600, 2_592_000
PIECE_BYTES = 256 << 10
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def upload(exchange: Exchange) -> None:
    """Answer POST /v1/files: the file is durable when this is answered."""
    files, owner = runner(exchange).files, exchange.caller.key
    await anyio.to_thread.run_sync(files.check_room, owner)
    folder = await anyio.to_thread.run_sync(files.make_folder)
    limit = exchange.services.settings.max_upload_bytes
    async with read_form(
        exchange, max_field_bytes=MAX_FIELD_BYTES, max_file_bytes=limit, folder=folder, drafts=files
    ) as form:
        for name in (*form.fields, *form.files):
            if name not in fields.UPLOAD:
                raise unknown_field(name, fields.UPLOAD)
        purpose = _one(form, "purpose")
        if purpose not in PURPOSES:
            raise InputError(f"purpose must be one of {', '.join(PURPOSES)}", param="purpose")
        sent = form.files.get("file")
        if sent is None:
            raise InputError("file is missing, or has no filename", param="file")
        keep_s = _keep_s(form, purpose)
        adopt = partial(files.adopt, sent.path, owner, _plain(sent.filename), purpose, keep_s)
        file = await anyio.to_thread.run_sync(adopt)
        await answer_json(exchange, file_form(file))


async def list_files(exchange: Exchange) -> None:
    """Answer GET /v1/files."""
    limit = exchange.query_int("limit", MAX_ROWS, 1, MAX_ROWS)
    rising = is_rising(exchange)
    find = partial(
        runner(exchange).files.rows,
        exchange.caller.key,
        purpose=exchange.query.get("purpose"),
        after=exchange.query.get("after"),
        limit=limit + 1,
        is_rising=rising,
    )
    rows = await anyio.to_thread.run_sync(find)
    await answer_json(exchange, page([file_form(row) for row in rows], limit))


async def show(exchange: Exchange) -> None:
    """Answer GET /v1/files/{file}."""
    await answer_json(exchange, file_form(await _find(exchange)))


async def remove(exchange: Exchange) -> None:
    """Answer DELETE /v1/files/{file}; not while a batch reads it."""
    service, file = runner(exchange), await _find(exchange)
    if file.id in await anyio.to_thread.run_sync(service.batches.inputs):
        raise ConflictError("a batch reads this file", hint="wait for its end, or cancel it")
    await anyio.to_thread.run_sync(service.files.remove, file.id, file.owner)
    await answer_json(exchange, {"id": file.id, "object": "file", "deleted": True})


async def content(exchange: Exchange) -> None:
    """Answer GET /v1/files/{file}/content: all of it, or the one range of bytes that is asked for."""
    service, file = runner(exchange), await _find(exchange)
    first, last = _range(exchange.headers.get("range", ""), file.size_bytes)
    is_part = last - first + 1 < file.size_bytes
    headers = [
        ("content-length", str(last - first + 1)),
        ("content-disposition", "attachment"),
        ("accept-ranges", "bytes"),
    ]
    if is_part:
        headers.append(("content-range", f"bytes {first}-{last}/{file.size_bytes}"))
    source = await anyio.to_thread.run_sync(service.files.open, file, first)
    try:
        await exchange.open_stream("application/octet-stream", headers, status=206 if is_part else 200)
        async with until_gone(exchange):
            left = last - first + 1
            while left > PIECE_BYTES:
                await exchange.write(await anyio.to_thread.run_sync(source.read, PIECE_BYTES))
                left -= PIECE_BYTES
            await exchange.finish(await anyio.to_thread.run_sync(source.read, left))
    finally:
        source.close()


def file_form(file: StoredFile) -> dict[str, Any]:
    """A file as the API writes it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.made_at_ns // 1_000_000_000,
        "expires_at": None if file.ends_at_ns is None else file.ends_at_ns // 1_000_000_000,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def checked_keep_s(anchor: object, seconds: object, param: str) -> int:
    """How long a file stays, in seconds after it was made. Raises InputError."""
    if anchor != "created_at":
        raise InputError(f"{param}.anchor must be created_at", param=f"{param}.anchor")
    if not isinstance(seconds, int) or not MIN_KEEP_S <= seconds <= MAX_KEEP_S:
        raise InputError(
            f"{param}.seconds must be a whole number from {MIN_KEEP_S} to {MAX_KEEP_S}", param=f"{param}.seconds"
        )
    return seconds


async def _find(exchange: Exchange) -> StoredFile:
    return await anyio.to_thread.run_sync(runner(exchange).files.find, exchange.params["file"], exchange.caller.key)


def _one(form: Form, name: str) -> str:
    values = form.fields.get(name, [])
    if len(values) != 1:
        raise InputError(f"{name} must be sent once", param=name)
    return values[0]


def _keep_s(form: Form, purpose: str) -> int | None:
    """As in the original: inputs of batches stay for 30 days, everything else until it is deleted."""
    if not any(name.startswith("expires_after") for name in form.fields):
        return MAX_KEEP_S if purpose == "batch" else None
    seconds = _one(form, "expires_after[seconds]")
    number = int(seconds) if seconds.isascii() and seconds.isdecimal() and len(seconds) < 10 else None
    return checked_keep_s(_one(form, "expires_after[anchor]"), number, "expires_after")


def _plain(filename: str) -> str:
    """The last part of a name, in signs that can be shown."""
    last = re.split(r"[/\\]", filename)[-1][-MAX_NAME_CHARS:]
    return "".join(letter if letter.isprintable() else "_" for letter in last) or "file"


def _range(header: str, size: int) -> tuple[int, int]:
    """First and last byte to send. Anything but one range is read as none (RFC 9110, 14.2). HttpError 416."""
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or not any(found.groups()):
        return 0, size - 1
    first, last = found.groups()
    low = int(first) if first else max(0, size - int(last))
    high = min(int(last), size - 1) if first and last else size - 1
    if first and last and int(last) < low:
        return 0, size - 1
    if low > high:
        raise HttpError(
            416,
            f"the file has {size} bytes",
            code="range_not_satisfiable",
            headers=(("content-range", f"bytes */{size}"),),
        )
    return low, high
