"""POST /api/pull and /api/copy, DELETE /api/delete: which models are here."""

from __future__ import annotations

import re

import anyio.to_thread
from msgspec import Struct

from catena.core.errors import ForbiddenError, MissingExtraError, RefusedError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import asking, fields
from catena.reach.gateway.protocols.ollama.narration import Teller, narrate
from catena.reach.gateway.protocols.ollama.reading import new_name, read, stored_name
from catena.reach.gateway.services import Shelf
from catena.reach.ticket import Caller
from catena.store import Progress, catalogue

_SCHEME = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:")
_LOCAL = Caller().key
VERIFYING = "verifying sha256 digest"


class PullWire(Struct, frozen=True):
    model: str
    stream: bool | None = None


class CopyWire(Struct, frozen=True):
    source: str
    destination: str


class DeleteWire(Struct, frozen=True):
    model: str


async def pull(exchange: Exchange) -> None:
    """Bring a model in, saying how far it is; a client that leaves stops it, and the next pull goes on from there."""
    wire = await read(exchange, fields.PULL, PullWire)
    shelf = shelf_of(exchange)
    source = stored_name(wire.model)
    offer = next((one for one in catalogue() if source in (one.name, one.source)), None)
    if offer is None and exchange.caller.key != _LOCAL and not _SCHEME.match(source):
        raise ForbiddenError(
            "files of this machine are pulled by its own user only",
            hint=f"known by name: {', '.join(one.name for one in catalogue())}",
        )
    # A package is told by the weights in it, which are most of it; its files each by themselves.
    digests = {file.name: file.digest for file in offer.files} if offer else {}
    weights = offer.files[0].digest if offer else ""

    def work(tell: Teller) -> None:
        told: set[str] = set()
        tell("pulling manifest")

        def report(progress: Progress) -> None:
            digest = digests.get(progress.what, weights)
            known = {"digest": digest} if digest else {}
            counts = {"total": progress.total_bytes, "completed": progress.done_bytes}
            told.add(_status(progress, digest))
            tell(_status(progress, digest), **known, **counts)

        shelf.pull(source, progress=report)
        if VERIFYING not in told:
            tell(VERIFYING)
        tell("writing manifest")

    with asking.known(wire.model):
        await narrate(exchange, work, is_stream=wire.stream is not False)


async def copy(exchange: Exchange) -> None:
    """Give a model another name beside its own."""
    wire = await read(exchange, fields.COPY, CopyWire)
    shelf, source, name = shelf_of(exchange), stored_name(wire.source), new_name(wire.destination, "destination")
    with asking.known(wire.source):
        await anyio.to_thread.run_sync(shelf.copy, source, name)
    await exchange.answer(200, b"")


async def delete(exchange: Exchange) -> None:
    """Take a name away; what is loaded of it goes when nobody uses it."""
    wire = await read(exchange, fields.DELETE, DeleteWire)
    shelf = shelf_of(exchange)
    with asking.known(wire.model):
        row = await anyio.to_thread.run_sync(shelf.remove, stored_name(wire.model))
    if exchange.services.sessions is not None:
        exchange.services.sessions.keep(row.digest, 0)
    exchange.warnings.append("the name is removed; `catena gc` removes files that no other model needs")
    await exchange.answer(200, b"")


async def push(exchange: Exchange) -> None:
    """Never: nothing leaves this machine."""
    raise RefusedError(
        "models are not sent anywhere from here", hint="copy the folder, or pull it on the other machine"
    )


def shelf_of(exchange: Exchange) -> Shelf:
    """Raises MissingExtraError for a gateway without a store."""
    if exchange.services.shelf is None:
        raise MissingExtraError("the store", "local")
    return exchange.services.shelf


def _status(progress: Progress, digest: str) -> str:
    """Which step it is, in words that clients show; of a digest the first twelve digits."""
    if progress.phase in ("read", "check"):
        return VERIFYING
    what = digest.removeprefix("sha256:")[:12] or progress.what
    return f"pulling {what}" if progress.phase == "download" else f"writing {what}"
