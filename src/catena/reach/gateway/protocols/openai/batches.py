"""/v1/batches: many requests from a file, answered behind whoever waits for an answer, into a file."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from catena.core.errors import InputError, NotFoundError
from catena.reach.batches import Batch
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.openai import fields, parameters
from catena.reach.gateway.protocols.openai.files import checked_keep_s
from catena.reach.gateway.protocols.openai.pages import page, runner
from catena.reach.gateway.wire import check_fields, convert, read_json

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
MAX_ROWS, ROWS = 100, 20
MAX_WINDOW_S = 30 * 86_400
_WINDOW = re.compile(r"(\d{1,7})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class ExpiryWire(Struct, frozen=True, forbid_unknown_fields=True):
    anchor: str
    seconds: int


class BatchWire(Struct, frozen=True):
    """The body; `fields.BATCH` says what becomes of each parameter."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiryWire | None = None


async def create(exchange: Exchange) -> None:
    """Answer POST /v1/batches: the batch is durable when this is answered; its lines are checked after that."""
    service, owner = runner(exchange), exchange.caller.key
    body = await read_json(exchange)
    check_fields(body, fields.BATCH, exchange.warnings)
    wire = convert(body, BatchWire)
    if wire.endpoint not in ENDPOINTS:
        raise InputError(f"endpoint must be one of {', '.join(ENDPOINTS)}", param="endpoint")
    window_s = _window_s(wire.completion_window)
    keep = wire.output_expires_after
    keep_s = checked_keep_s(keep.anchor, keep.seconds, "output_expires_after") if keep else None
    parameters.check_metadata(wire.metadata)
    try:
        file = await anyio.to_thread.run_sync(service.files.find, wire.input_file_id, owner)
    except NotFoundError as error:
        error.param = "input_file_id"
        raise
    if file.purpose != "batch":
        raise InputError("the input file must have been uploaded with purpose batch", param="input_file_id")
    add = partial(
        service.batches.add,
        owner,
        wire.endpoint,
        file.id,
        completion_window=wire.completion_window,
        window_s=window_s,
        output_keep_s=keep_s,
        metadata=wire.metadata,
    )
    batch = await anyio.to_thread.run_sync(add)
    service.start(batch)
    await answer_json(exchange, batch_form(batch))


async def list_batches(exchange: Exchange) -> None:
    """Answer GET /v1/batches, newest first."""
    limit = exchange.query_int("limit", ROWS, 1, MAX_ROWS)
    find = partial(
        runner(exchange).batches.rows, exchange.caller.key, after=exchange.query.get("after"), limit=limit + 1
    )
    rows = await anyio.to_thread.run_sync(find)
    await answer_json(exchange, page([batch_form(row) for row in rows], limit))


async def show(exchange: Exchange) -> None:
    """Answer GET /v1/batches/{batch}."""
    find = partial(runner(exchange).batches.find, exchange.params["batch"], exchange.caller.key)
    await answer_json(exchange, batch_form(await anyio.to_thread.run_sync(find)))


async def cancel(exchange: Exchange) -> None:
    """Answer POST /v1/batches/{batch}/cancel: requests in flight are stopped, what was answered is kept."""
    service, id = runner(exchange), exchange.params["batch"]
    with anyio.CancelScope(shield=True):
        batch = await anyio.to_thread.run_sync(service.batches.cancel, id, exchange.caller.key)
        service.stop(id)
        await answer_json(exchange, batch_form(batch))


def batch_form(batch: Batch) -> dict[str, Any]:
    """A batch as the API writes it."""
    spent, problems = batch.spent, [msgspec.to_builtins(problem) for problem in batch.problems]
    blank = {"code": None, "message": None, "param": None, "line": None}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": [blank | problem for problem in problems]} if problems else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": None if batch.is_open else batch.output_file_id,
        "error_file_id": None if batch.is_open else batch.error_file_id,
        "created_at": batch.at["created"],
        "expires_at": batch.expires_at,
        **{f"{name}_at": batch.at.get(name) for name in _TIMES},
        "request_counts": msgspec.to_builtins(batch.counts),
        "usage": {
            "input_tokens": spent.input_tokens,
            "input_tokens_details": {"cached_tokens": spent.cached_tokens},
            "output_tokens": spent.output_tokens,
            "output_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
            "total_tokens": spent.input_tokens + spent.output_tokens,
        },
        "metadata": batch.metadata,
    }


def _window_s(text: str) -> int:
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 1 <= seconds <= MAX_WINDOW_S:
        raise InputError(
            "completion_window must be 24h, or another whole number of s, m, h or d up to 30d",
            param="completion_window",
        )
    return seconds
