"""/catena/v1: what this gateway does, and the receipts of what it did, with proofs and traces."""

from __future__ import annotations

from typing import Any

from catena.core.errors import MissingExtraError, NotFoundError
from catena.core.ids import is_id
from catena.core.messages.audit import in_full
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import NATIVE, answer_json
from catena.reach.gateway.routing import Route
from catena.reach.gateway.services import Reader, Record

MAX_RECEIPTS = 200


async def status(exchange: Exchange) -> None:
    """GET status: sessions, memory, queue."""
    if exchange.services.status is None:
        raise MissingExtraError("the status of the scheduler", "local")
    await answer_json(exchange, exchange.services.status())


async def list_receipts(exchange: Exchange) -> None:
    """GET receipts?limit=&before=: newest first; a key without the scope `audit` sees its own only."""
    limit = exchange.query_int("limit", 50, 1, MAX_RECEIPTS)
    before = exchange.query.get("before") or None
    if before is not None:
        _check_receipt(before)
    rows = _reader(exchange).recent(limit, before)
    next_before = rows[-1][0].receipt if len(rows) == limit else None
    shown = [_form(row) for row in rows if _may_see(exchange, row[0].caller)]
    await answer_json(exchange, {"receipts": shown, "next": next_before})


async def show_receipt(exchange: Exchange) -> None:
    """GET receipts/{id}: both records, where they stand in the log, and its newest checkpoint."""
    form = _form(_find(exchange))
    await answer_json(exchange, {**form, "checkpoint": _reader(exchange).checkpoint()})


async def prove_receipt(exchange: Exchange) -> None:
    """GET receipts/{id}/proof: a file that proves offline that the records are in the log.

    With `?salt=1` it carries the receipt's salt, so that its holder can compare texts with the recorded digests.
    """
    opened = _find(exchange)[0]
    salt = exchange.services.salt if exchange.query_int("salt", 0, 0, 1) else None
    await answer_json(exchange, _reader(exchange).prove(opened.receipt, salt(opened.receipt) if salt else None))


async def trace_receipt(exchange: Exchange) -> None:
    """GET receipts/{id}/trace: the whole chain behind the answer, link by link."""
    opened = _find(exchange)[0]
    if exchange.services.trace is None:
        raise MissingExtraError("the trace", "local")
    await answer_json(exchange, exchange.services.trace(opened.receipt))


async def checkpoint(exchange: Exchange) -> None:
    """GET checkpoint: the newest signed note over the log, as C2SP writes it."""
    note = _reader(exchange).checkpoint().encode()
    await exchange.answer(200, note, "text/plain; charset=utf-8")


async def key(exchange: Exchange) -> None:
    """GET key: the public key that checkpoints are signed with, as a C2SP verifier key."""
    if exchange.services.verifier_key is None:
        raise MissingExtraError("the audit log", "local")
    await answer_json(exchange, {"verifier_key": exchange.services.verifier_key})


def _find(exchange: Exchange) -> Record:
    receipt = exchange.params["receipt"]
    _check_receipt(receipt)
    found = _reader(exchange).find(receipt)
    if not _may_see(exchange, found[0].caller):
        raise NotFoundError("there is no such receipt")  # as if it did not exist
    exchange.receipt = found[0].receipt
    return found


def _check_receipt(receipt: str) -> None:
    if not is_id(receipt, "rcpt"):
        raise NotFoundError("there is no such receipt", hint="it looks like rcpt_ and 26 letters and digits")


def _reader(exchange: Exchange) -> Reader:
    if exchange.services.reader is None:
        raise MissingExtraError("the audit log", "local")
    return exchange.services.reader


def _may_see(exchange: Exchange, caller: str) -> bool:
    return "audit" in exchange.scopes or caller == exchange.caller.key


def _form(record: Record) -> dict[str, Any]:
    opened, opened_index, closed, closed_index = record
    return {
        "receipt": opened.receipt,
        "opened": in_full(opened),
        "opened_index": opened_index,
        "closed": in_full(closed),
        "closed_index": closed_index,
    }


PREFIX = "/catena/v1"
routes = (
    Route("GET", f"{PREFIX}/status", status, "ask", NATIVE),
    Route("GET", f"{PREFIX}/receipts", list_receipts, "ask", NATIVE),
    Route("GET", f"{PREFIX}/receipts/{{receipt}}", show_receipt, "ask", NATIVE),
    Route("GET", f"{PREFIX}/receipts/{{receipt}}/proof", prove_receipt, "ask", NATIVE),
    Route("GET", f"{PREFIX}/receipts/{{receipt}}/trace", trace_receipt, "ask", NATIVE),
    Route("GET", f"{PREFIX}/checkpoint", checkpoint, "ask", NATIVE),
    Route("GET", f"{PREFIX}/key", key, "ask", NATIVE),
)
