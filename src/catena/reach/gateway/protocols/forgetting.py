"""/catena/v1/forget: has this machine forget what is named, for `catena forget` beside a running gateway."""

from __future__ import annotations

import msgspec

from catena.core.errors import InputError, MissingExtraError
from catena.reach.forgetting import Target
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import NATIVE, answer_json
from catena.reach.gateway.routing import Route
from catena.reach.gateway.wire import decode


async def forget(exchange: Exchange) -> None:
    """POST forget: a Target as JSON; with `?dry_run=1` only says what would go. It goes on if the client leaves."""
    forgetting = exchange.services.forgetting
    if forgetting is None:
        raise MissingExtraError("forgetting", "local")
    body = decode(await exchange.body(), exchange.services.settings.max_json_depth)
    try:
        target = msgspec.convert(body, Target)
    except msgspec.ValidationError:  # its message might quote what is to be forgotten
        raise InputError(
            "this names nothing that could be forgotten",
            hint=f"lists of texts under {', '.join(Target.__struct_fields__)}",
        ) from None
    is_dry = exchange.query_int("dry_run", 0, 0, 1)
    report = await (forgetting.preview(target) if is_dry else forgetting.run(target, exchange.caller.key))
    exchange.receipt = report.receipt or None
    await answer_json(exchange, report)


routes = (Route("POST", "/catena/v1/forget", forget, "manage", NATIVE),)
