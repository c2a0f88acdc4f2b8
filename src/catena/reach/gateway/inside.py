"""Requests of this machine's own work: they pass no door, but the same routes, limits, records and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
from msgspec import structs

from catena.reach.access import Identity
from catena.reach.batches.work import Answered
from catena.reach.gateway.exchange import Exchange, Message
from catena.reach.gateway.services import Reach
from catena.reach.ticket import Caller

if TYPE_CHECKING:
    from catena.reach.gateway.application import Gateway


class Inside:
    """Asks `gateway` from within; models are asked in the background, behind whoever waits for an answer."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._services = msgspec.structs.replace(
            gateway.services, router=cast(Reach, _Patient(gateway.services.router))
        )

    async def post(self, path: str, body: bytes, identity: Identity) -> Answered:
        """What POST of this JSON to `path` is answered, with the rights of `identity`. Cancelling stops the work."""
        waiting = [body]
        sent: list[Message] = []

        async def receive() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop()}
            await anyio.sleep_forever()
            raise AssertionError("nothing comes after for ever")

        async def send(message: Message) -> None:
            sent.append(message)

        headers = {"content-type": "application/json", "content-length": str(len(body))}
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self._gateway.serve_own(Exchange(self._services, scope, receive, send), identity)
        head, *pieces = sent
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in head["headers"]}
        return Answered(head["status"], found, b"".join(piece["body"] for piece in pieces))


class _Patient:
    """The router for work that nobody waits for; every way to ask it takes a request and its caller."""

    def __init__(self, router: Reach) -> None:
        self._router = router

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._router, name)

        def ask(request: Any, caller: Caller) -> Any:
            return method(request, structs.replace(caller, door=f"{caller.door}.batch", is_background=True))

        return ask
