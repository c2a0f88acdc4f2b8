"""GET /v1/models and /v1/models/{model} for requests with the header anthropic-version: models that can be asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from catena.core.errors import InputError, NotFoundError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.anthropic.headers import check_headers
from catena.reach.gateway.services import Listed
from catena.reach.router import DEFAULT

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000


async def list_models(exchange: Exchange) -> None:
    """Models that answer messages, by name, a page at a time: `limit`, and `after_id` or `before_id`."""
    check_headers(exchange)
    rows = [row for row in exchange.services.models() if row.manifest.task == "generate"]
    limit = exchange.query_int("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    after, before = exchange.query.get("after_id"), exchange.query.get("before_id")
    if after and before:
        raise InputError("after_id and before_id exclude one another", param="before_id")
    names = [row.name for row in rows]
    if after:
        rows = rows[_place(names, after, "after_id") + 1 :]
    if before:
        rows = rows[: _place(names, before, "before_id")]
    page = rows[-limit:] if before else rows[:limit]
    await answer_json(
        exchange,
        {
            "data": [_form(row) for row in page],
            "has_more": len(page) < len(rows),
            "first_id": page[0].name if page else None,
            "last_id": page[-1].name if page else None,
        },
    )


async def show_model(exchange: Exchange) -> None:
    """One model by name, alias or digest."""
    check_headers(exchange)
    wanted = exchange.params["model"]
    if wanted == DEFAULT:
        wanted = exchange.services.settings.default_model
    for row in exchange.services.models():
        own: tuple[str, ...] = getattr(row, "aliases", ())
        if wanted in (row.name, row.digest) or exchange.params["model"] in own:
            await answer_json(exchange, _form(row))
            return
    raise NotFoundError("there is no such model", hint="GET /v1/models lists them")


def _place(names: list[str], wanted: str, param: str) -> int:
    if wanted not in names:
        raise InputError(f"{param} names no model of the list", param=param)
    return names.index(wanted)


def _form(row: Listed) -> dict[str, Any]:
    """The API's fields, with null for what is not known, and under `catena` what is known beyond them."""
    added_s = getattr(row, "added_at_ns", 0) // 1_000_000_000
    context_tokens = row.manifest.facts.get("context_tokens")
    return {
        "type": "model",
        "id": row.name,
        "display_name": row.name,
        "created_at": datetime.fromtimestamp(added_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": context_tokens,
        "max_tokens": context_tokens,
        "capabilities": None,
        "catena": {"digest": row.digest, "task": row.manifest.task, "licence": row.manifest.licence},
    }
