"""The conversation before a question: kept responses by id, and items by reference."""

from __future__ import annotations

from catena.core.errors import InputError, NotFoundError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.protocols.openai.responses.course import live
from catena.reach.gateway.protocols.openai.responses.items import MAX_ITEMS, Item
from catena.reach.gateway.protocols.openai.responses.keeping import find


async def history(exchange: Exchange, id: str | None) -> list[Item]:
    """The items of response `id` and of those before it, oldest first.

    Raises HttpError 400 when one of them is not kept, InputError when one has not been completed.
    """
    items: list[Item] = []
    while id is not None:
        if live(exchange, id) is not None:
            raise InputError("the previous response is not complete", param="previous_response_id")
        try:
            found = await find(exchange, id)
        except NotFoundError:
            message = "a response before that one is not kept" if items else "the previous response is not kept"
            error = HttpError(400, message, code="previous_response_not_found", hint="send the whole conversation")
            error.param = "previous_response_id"
            raise error from None
        if found.form["status"] not in ("completed", "incomplete"):
            raise InputError(f"the previous response is {found.form['status']}", param="previous_response_id")
        items = [*found.asked, *found.form["output"], *items]
        if len(items) > MAX_ITEMS:
            raise InputError(f"the conversation has more than {MAX_ITEMS} items", param="previous_response_id")
        id = found.form["previous_response_id"]
    return items


async def resolved(exchange: Exchange, items: list[Item], earlier: list[Item]) -> list[Item]:
    """The items with what they refer to in the place of references. Raises NotFoundError naming the place."""
    known = {item["id"]: item for item in earlier}
    found: list[Item] = []
    for index, item in enumerate(items):
        if item["type"] != "item_reference":
            found.append(item)
            continue
        id = item["id"]
        if id not in known:
            known |= await _siblings(exchange, id)
        if id not in known:
            error = NotFoundError(f"input[{index}]: no kept response has this item", hint="send the item itself")
            error.param = f"input[{index}].id"
            raise error
        found.append(known[id])
    return found


async def _siblings(exchange: Exchange, id: str) -> dict[str, Item]:
    """The items of the kept response that item `id` seems to belong to, by their ids."""
    try:
        found = await find(exchange, f"resp_{'_'.join(id.split('_')[1:2])}")
    except NotFoundError:
        return {}
    return {item["id"]: item for item in (*found.asked, *found.form["output"])}
