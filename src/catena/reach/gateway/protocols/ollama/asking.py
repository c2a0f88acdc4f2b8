"""What /api/chat and /api/generate share: asking a model, or only having it loaded or let go."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import ForbiddenError, MissingExtraError, NotFoundError
from catena.core.manifest import StoredModel
from catena.core.messages import GenerateRequest
from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import forms, options
from catena.reach.gateway.protocols.ollama.forms import Lines, Wording
from catena.reach.gateway.protocols.ollama.reading import keep_alive, stored_name
from catena.reach.gateway.services import Sessions


class Common(Struct, frozen=True):
    """What both routes take, as it comes."""

    model: str
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


async def ask(exchange: Exchange, wire: Common, request: GenerateRequest, wording: Wording) -> None:
    """Answer with what a model says, at once or line by line, and keep it loaded as long as was asked for."""
    began_s = monotonic_s()
    hold_s = keep_alive(exchange, wire.keep_alive)
    with known(wire.model):
        if wire.stream is False:
            accepted, reply = await answering.whole(exchange, request)
            hold(exchange, accepted.model, hold_s)
            await exchange.answer(200, forms.whole(wire.model, reply, wording, began_s))
            return
        lines = Lines(wire.model, wording, began_s)
        try:
            await answering.stream(exchange, request, lines)
        finally:
            if lines.accepted is not None:
                hold(exchange, lines.accepted.model, hold_s)


async def load_or_unload(exchange: Exchange, wire: Common, wording: Wording) -> None:
    """Answer a request without a question: have the model in memory, or with a keep_alive of 0 let it go."""
    began_s = monotonic_s()
    sessions = sessions_of(exchange)
    hold_s = keep_alive(exchange, wire.keep_alive)
    name = stored_name(wire.model)
    with known(wire.model):
        if wire.keep_alive is not None and hold_s is None and _is_zero(wire.keep_alive):
            raise ForbiddenError("this key lacks the scope 'manage'", hint="make a key that has it")
        if hold_s == 0:
            for row in exchange.services.models():
                if name in (row.name, row.digest):
                    sessions.keep(row.digest, 0)
                    break
            else:
                raise NotFoundError("there is no such model", param="model")
        else:
            async with answering.until_gone(exchange):
                model = await sessions.load(name, exchange.caller)
            hold(exchange, model, hold_s)
    took = {"total_duration": round((monotonic_s() - began_s) * 1e9)}
    reason = "unload" if hold_s == 0 else "load"
    body = forms.head(wire.model) | wording("", "", ()) | {"done": True, "done_reason": reason} | took
    await exchange.answer(200, forms.encode(body))


@contextmanager
def known(name: str) -> Generator[None]:
    """Say that a model is not found in the words that clients look for."""
    try:
        yield
    except NotFoundError as error:
        if error.param in (None, "model"):
            error.param = "model"
            error.message = f"model {name[:200]!r} not found"
        raise


def hold(exchange: Exchange, model: StoredModel, seconds: float | None) -> None:
    """Keep `model` loaded for so long after its last use; None says nothing, inf for as long as it can stay."""
    if seconds is not None and exchange.services.sessions is not None:
        exchange.services.sessions.keep(model.digest, None if math.isinf(seconds) else seconds)


def sessions_of(exchange: Exchange) -> Sessions:
    """Raises MissingExtraError where nothing is loaded, as in a gateway without a scheduler."""
    if exchange.services.sessions is None:
        raise MissingExtraError("the scheduler", "local")
    return exchange.services.sessions


def prepared(exchange: Exchange, wire: Common) -> options.OptionsWire:
    """The options, checked, with a warning for a context that this model does not have."""
    chosen = options.read(wire.options, exchange.warnings)
    options.check_context(exchange, stored_name(wire.model), chosen.num_ctx)
    return chosen


def _is_zero(value: float | str) -> bool:
    return str(value).strip("0.smh") == ""
