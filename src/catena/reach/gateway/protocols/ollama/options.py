"""`options`: how to sample, in Ollama's words, for a request or for a model that is being made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from catena.core.errors import InputError
from catena.core.messages import OutputFormat, Sampling
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import fields
from catena.reach.gateway.sampling import MAX_LOGPROBS, SamplingWire, check_bounds, read_sampling, within
from catena.reach.gateway.schemas import schema_output
from catena.reach.gateway.wire import check_fields, convert

MAX_STOPS = 16
MAX_TOKENS = 1 << 31


class OptionsWire(SamplingWire, frozen=True, kw_only=True):
    """What is honoured of the options; `fields.OPTIONS` says what becomes of the others."""

    num_predict: int | None = None
    repeat_penalty: float | None = None
    num_ctx: int | None = None


def read(options: Mapping[str, Any] | None, warnings: list[str], where: str = "options") -> OptionsWire:
    """The options within their bounds. Raises InputError or UnsupportedError naming one."""
    if not options:
        return OptionsWire()
    check_fields(options, fields.OPTIONS, warnings, f"{where}.")
    try:
        wire = convert({name: options[name] for name in options if name in OptionsWire.__struct_fields__}, OptionsWire)
    except InputError as error:
        error.param = f"{where}.{error.param}" if error.param else where
        raise
    check_bounds(wire, f"{where}.")
    within("num_predict", wire.num_predict, -MAX_TOKENS, MAX_TOKENS, f"{where}.")
    within("num_ctx", wire.num_ctx, 0, MAX_TOKENS, f"{where}.")
    return wire


def sampling(wire: OptionsWire, logprobs: int | None = None) -> Sampling:
    """How to sample; an answer may end where the context does. Raises InputError for stop texts that cannot be."""
    return replace(
        read_sampling(wire, wire.repeat_penalty, max_stops=MAX_STOPS, where="options."),
        max_tokens=wire.num_predict if wire.num_predict and wire.num_predict > 0 else None,
        logprobs=logprobs,
        fills_context=True,
    )


def num_logprobs(is_wanted: bool | None, top: int | None) -> int | None:
    """How many alternatives a token is to have; None without logprobs. Raises InputError."""
    within("top_logprobs", top, 0, MAX_LOGPROBS)
    if not is_wanted:
        if top:
            raise InputError("top_logprobs needs logprobs", param="top_logprobs", hint="set logprobs to true")
        return None
    return top or 0


def output(format: str | dict[str, Any] | None) -> OutputFormat:
    """The form of the answer. Raises InputError, UnsupportedError for a schema with references to the outside."""
    if not format:
        return OutputFormat()
    if isinstance(format, dict):
        return schema_output(format, "format")
    if format != "json":
        raise InputError("format must be json or a JSON schema", param="format")
    return OutputFormat("json")


def check_context(exchange: Exchange, name: str, num_ctx: int | None) -> None:
    """Warn unless a context of `num_ctx` tokens is what the model called `name` has here."""
    if not num_ctx:
        return
    tokens = _context_tokens(exchange, name)
    if tokens != num_ctx:
        known = f": the context of this model holds {tokens} tokens here" if tokens else ""
        exchange.warnings.append(f"num_ctx ignored{known}; see run.context_tokens")


def _context_tokens(exchange: Exchange, name: str) -> int:
    if exchange.services.sessions is not None:
        for session in exchange.services.sessions.loaded():
            if name in (session.model, session.digest):
                return session.context_tokens
    for row in exchange.services.models():
        if name in (row.name, row.digest):
            return int(row.manifest.facts.get("context_tokens", 0))
    return 0
