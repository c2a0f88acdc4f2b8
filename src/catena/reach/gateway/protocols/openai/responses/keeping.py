"""What is kept of a response, for whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import NotFoundError
from catena.reach.archive import Archive, Kept
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai.responses.form import LOST, Answering, encode, error_form
from catena.reach.gateway.protocols.openai.responses.items import Item, identified

UNKNOWN = "there is no such response"


class Found(Struct, frozen=True):
    """A response as it is kept: the object, the items that were asked, the events of its stream where it has one."""

    form: dict[str, Any]
    asked: list[Item]
    frames: tuple[bytes, ...]
    is_lost: bool


def shelf(exchange: Exchange) -> Archive | None:
    """Where responses are kept, if they are."""
    archive = exchange.services.archive
    return archive if archive is not None and archive.keeps else None


async def find(exchange: Exchange, id: str) -> Found:
    """The response `id` of this caller, which is not being made now: one without an end was lost, so it has failed.

    Raises NotFoundError.
    """
    archive = exchange.services.archive
    if archive is None or not id.startswith("resp_"):
        raise NotFoundError(UNKNOWN)
    try:
        found = await archive.find(id, exchange.caller.key)
    except NotFoundError as error:
        error.message = UNKNOWN
        raise
    form = msgspec.json.decode(found.body)
    is_lost = found.state != "done"
    if is_lost:
        form |= {"status": "failed", "error": error_form(LOST)}
    return Found(form, msgspec.json.decode(found.asked), found.frames, is_lost)


def kept(answering: Answering, owner: str, asked: list[Item], frames: Sequence[bytes] = ()) -> Kept:
    """A response as it stands, to be kept for `owner`."""
    state = "open" if answering.status in ("queued", "in_progress") else "done"
    body = encode(answering.form())
    return Kept(answering.id, owner, body, encode(identified(asked, answering.tail)), tuple(frames), state)
