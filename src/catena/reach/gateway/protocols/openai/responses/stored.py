"""Kept responses: shown, followed, cancelled, deleted, and the items that were asked."""

from __future__ import annotations

from catena.core.errors import InputError, NotFoundError
from catena.reach.gateway.answering import STREAM_HEADERS
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai.pages import is_rising, page
from catena.reach.gateway.protocols.openai.responses.course import follow, live, stop
from catena.reach.gateway.protocols.openai.responses.form import CONTENT_TYPE, LOST, encode, error_frame, frame
from catena.reach.gateway.protocols.openai.responses.keeping import UNKNOWN, Found, find

MAX_PAGE = 100
MAX_NUMBER = 1 << 24


async def show(exchange: Exchange) -> None:
    """GET /v1/responses/{id}: the response as it stands, or with `stream` its events after `starting_after`."""
    id = exchange.params["id"]
    course = live(exchange, id)
    streams = _flag(exchange, "stream") and exchange.method == "GET"
    number = exchange.query_int("starting_after", -1, 0, MAX_NUMBER) + 1
    if number and not streams:
        raise InputError("starting_after needs stream", param="starting_after", hint="set stream to true")
    if course is not None and course.answering is not None:
        if not streams:
            await exchange.answer(200, encode(course.answering.form()))
        elif not course.streams:
            raise _unfollowed()
        else:
            await follow(exchange, course, number)
        return
    found = await find(exchange, id)
    if not streams:
        await exchange.answer(200, encode(found.form))
        return
    frames = _frames(found, number)
    await exchange.open_stream(CONTENT_TYPE, STREAM_HEADERS)
    await exchange.finish(b"".join(frames))


async def remove(exchange: Exchange) -> None:
    """DELETE /v1/responses/{id}: what was kept is gone when this answers; what is being made is cancelled first."""
    id, archive = exchange.params["id"], exchange.services.archive
    course = live(exchange, id)
    if course is not None:
        await stop(exchange, course)
    if archive is None:
        raise NotFoundError(UNKNOWN)
    await archive.remove(id, exchange.caller.key)
    await exchange.answer(200, encode({"id": id, "object": "response", "deleted": True}))


async def cancel(exchange: Exchange) -> None:
    """POST /v1/responses/{id}/cancel: stops work in the background; of what has ended, the response as it is."""
    id = exchange.params["id"]
    course = live(exchange, id)
    if course is not None:
        await stop(exchange, course)
    found = await find(exchange, id)
    if not found.form["background"]:
        raise InputError("only a response in the background can be cancelled", hint="close its connection instead")
    await exchange.answer(200, encode(found.form))


async def input_items(exchange: Exchange) -> None:
    """GET /v1/responses/{id}/input_items: what was sent with the question, newest first unless `order` is asc."""
    found = await find(exchange, exchange.params["id"])
    items, after = found.asked if is_rising(exchange) else found.asked[::-1], exchange.query.get("after")
    if after is not None:
        places = [index for index, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InputError("after names no item of this response", param="after")
        items = items[places[0] + 1 :]
    await exchange.answer(200, encode(page(items, exchange.query_int("limit", 20, 1, MAX_PAGE))))


def _frames(found: Found, number: int) -> list[bytes]:
    """The events from `number` on; those of a lost response end with its failure. Raises InputError."""
    if not found.frames:
        raise _unfollowed()
    frames = list(found.frames[number:])
    if found.is_lost:
        number = max(number, len(found.frames))
        frames += [frame("response.failed", number, {"response": found.form}), error_frame(LOST, number + 1)]
    return frames


def _unfollowed() -> InputError:
    return InputError(
        "only a response that was made in the background with stream can be followed",
        param="stream",
        hint="ask for it without stream",
    )


def _flag(exchange: Exchange, name: str) -> bool:
    match exchange.query.get(name, "false").lower():
        case "true" | "1":
            return True
        case "false" | "0" | "":
            return False
        case _:
            raise InputError(f"{name} must be true or false", param=name)
