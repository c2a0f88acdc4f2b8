"""Lists in pages: which part of a list is asked for, and its form."""

from __future__ import annotations

from typing import Any

from catena.core.errors import InputError
from catena.reach.batches import Runner
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError


def page(forms: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """The first `limit` of `forms`, of which one more was looked for."""
    shown = forms[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(forms) > limit,
    }


def is_rising(exchange: Exchange) -> bool:
    """Whether the oldest comes first, by `order`. Raises InputError."""
    order = exchange.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InputError("order must be asc or desc", param="order")
    return order == "asc"


def runner(exchange: Exchange) -> Runner:
    """Files and batches. Raises HttpError 501 where none are kept."""
    if exchange.services.runner is None:
        raise HttpError(501, "no files are kept here", code="unsupported")
    return exchange.services.runner
