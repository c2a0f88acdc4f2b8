"""HEAD and POST /api/blobs/{digest}: files that are sent here to become models."""

from __future__ import annotations

import anyio
import anyio.to_thread

from catena.core.errors import InputError, IntegrityError, MissingExtraError, NotFoundError
from catena.core.ids import is_digest
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.services import Intake

PIECE_BYTES = 1 << 20
# A file over the store's own limit is refused while it comes; this only bounds what Content-Length may say.
MAX_BYTES = 1 << 50


async def find(exchange: Exchange) -> None:
    """200 if the file is here, else 404."""
    intake, digest = _intake(exchange), _digest(exchange)
    if not await anyio.to_thread.run_sync(intake.has, digest):
        raise NotFoundError("there is no such file here", hint="POST it to the same address")
    await exchange.answer(200, b"")


async def receive(exchange: Exchange) -> None:
    """Take the file and check its digest: 201, or 200 if it was here already. All of it is durable, or nothing is kept.

    It has to arrive within `reach.body_timeout_s`, and be no larger than `store.max_file_bytes`.
    """
    intake, digest = _intake(exchange), _digest(exchange)
    if await anyio.to_thread.run_sync(intake.has, digest):
        await exchange.read(_drop, MAX_BYTES)
        await exchange.answer(200, b"")
        return
    receiving = intake.receiving(digest)
    upload = await anyio.to_thread.run_sync(receiving.__enter__)
    waiting = bytearray()

    async def keep(piece: bytes) -> None:
        waiting.extend(piece)
        if len(waiting) >= PIECE_BYTES:
            await anyio.to_thread.run_sync(upload.write, bytes(waiting))
            waiting.clear()

    try:
        await exchange.read(keep, MAX_BYTES)
        await anyio.to_thread.run_sync(upload.write, bytes(waiting))
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(receiving.__exit__, type(error), error, error.__traceback__)
        raise
    try:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(receiving.__exit__, None, None, None)
    except IntegrityError as error:
        raise HttpError(400, error.message, code=error.code, hint=error.hint) from None
    await exchange.answer(201, b"")


async def _drop(_: bytes) -> None:
    """Read and forgotten."""


def _digest(exchange: Exchange) -> str:
    digest = exchange.params["digest"].replace("sha256-", "sha256:", 1)
    if not is_digest(digest):
        raise InputError("a file is named by its SHA-256 digest: sha256: and 64 digits", param="digest")
    return digest


def _intake(exchange: Exchange) -> Intake:
    if exchange.services.intake is None:
        raise MissingExtraError("the store", "local")
    return exchange.services.intake
