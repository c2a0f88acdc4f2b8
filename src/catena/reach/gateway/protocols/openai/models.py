"""GET /v1/models and /v1/models/{model}: what can be asked here."""

from __future__ import annotations

from typing import Any

from catena.core.errors import NotFoundError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.services import Listed
from catena.reach.router import DEFAULT


async def list_models(exchange: Exchange) -> None:
    """Every model by name; an alias is shown with its model."""
    rows = exchange.services.models()
    await answer_json(exchange, {"object": "list", "data": [_form(exchange, row) for row in rows]})


async def show_model(exchange: Exchange) -> None:
    """One model by name, alias or digest."""
    wanted = exchange.params["model"]
    for row in exchange.services.models():
        if wanted in (row.name, row.digest, *_aliases(exchange, row)):
            await answer_json(exchange, _form(exchange, row))
            return
    error = NotFoundError("there is no such model", hint="GET /v1/models lists them")
    error.param = "model"
    raise error


def _aliases(exchange: Exchange, row: Listed) -> tuple[str, ...]:
    own: tuple[str, ...] = getattr(row, "aliases", ())
    is_default = row.name == exchange.services.settings.default_model
    return (*own, DEFAULT) if is_default and DEFAULT not in own else own


def _form(exchange: Exchange, row: Listed) -> dict[str, Any]:
    """The API's four fields, and under `catena` what is known beyond them."""
    manifest = row.manifest
    return {
        "id": row.name,
        "object": "model",
        "created": getattr(row, "added_at_ns", 0) // 1_000_000_000,
        "owned_by": "catena",
        "catena": {
            "digest": row.digest,
            "aliases": _aliases(exchange, row),
            "task": manifest.task,
            "format": manifest.format,
            "licence": manifest.licence,
            "context_tokens": manifest.facts.get("context_tokens"),
            "facts": manifest.facts,
        },
    }
