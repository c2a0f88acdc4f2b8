"""`options`: how to sample, in Ollama's words, for a request or for a model that is being made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from catena.core.errors import InputError
from catena.core.messages import OutputFormat, Sampling
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import fields
from catena.reach.gateway.schemas import schema_output
from catena.reach.gateway.wire import check_fields, convert

MAX_STOPS = 16
MAX_LOGPROBS = 20
MAX_SEED = (1 << 63) - 1
MAX_TOKENS = 1 << 31
_BOUNDS = (
    ("temperature", 0.0, 2.0),
    ("top_k", 0, 1 << 20),
    ("min_p", 0.0, 1.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("seed", -MAX_SEED - 1, MAX_SEED),
    ("num_predict", -MAX_TOKENS, MAX_TOKENS),
    ("num_ctx", 0, MAX_TOKENS),
)


class OptionsWire(Struct, frozen=True):
    """What is honoured of the options; `fields.OPTIONS` says what becomes of the others."""

    num_predict: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
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
    for name, low, high in _BOUNDS:
        value = getattr(wire, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} must be from {low:g} to {high:g}", param=f"{where}.{name}")
    for name, top in (("top_p", 1.0), ("repeat_penalty", 2.0)):
        value = getattr(wire, name)
        if value is not None and not 0.0 < value <= top:
            raise InputError(f"{name} must be above 0 and at most {top:g}", param=f"{where}.{name}")
    return wire


def sampling(wire: OptionsWire, logprobs: int | None = None) -> Sampling:
    """How to sample; an answer may end where the context does. Raises InputError for stop texts that cannot be."""
    stops = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    if len(stops) > MAX_STOPS:
        raise InputError(f"stop takes at most {MAX_STOPS} texts", param="options.stop")
    if any(not text for text in stops):
        raise InputError("a stop text must not be empty", param="options.stop")
    return Sampling(
        max_tokens=wire.num_predict if wire.num_predict and wire.num_predict > 0 else None,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        min_p=wire.min_p,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repeat_penalty=wire.repeat_penalty,
        seed=wire.seed,
        stop=stops,
        logprobs=logprobs,
        fills_context=True,
    )


def num_logprobs(is_wanted: bool | None, top: int | None) -> int | None:
    """How many alternatives a token is to have; None without logprobs. Raises InputError."""
    if top is not None and not 0 <= top <= MAX_LOGPROBS:
        raise InputError(f"top_logprobs must be from 0 to {MAX_LOGPROBS}", param="top_logprobs")
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
