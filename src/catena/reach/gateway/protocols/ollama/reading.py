"""Requests as Ollama's clients send them: their media types, model names with a tag, durations, pictures."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from catena.core.errors import InputError
from catena.core.messages import Image
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.wire import Field, check_fields, convert, decode

MAX_IMAGES = 16
# What curl says of `-d` unless told otherwise, and what clients say that say nothing.
_LAX_TYPES = frozenset({"", "application/x-www-form-urlencoded"})
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"[+-]?(\d{1,12}(\.\d{0,12})?(h|ms|m|s|us|µs|ns))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|s|us|µs|ns)")
_KINDS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
T = TypeVar("T")


async def read(exchange: Exchange, fields: Mapping[str, Field], kind: type[T]) -> T:
    """The body as `kind`. Raises HttpError 415, 413, 400, InputError, UnsupportedError.

    Pages must say that they send JSON, which they may only after a preflight; other clients need not, as here.
    """
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_page = "origin" in exchange.headers or "sec-fetch-site" in exchange.headers
    if media_type != "application/json" and (is_page or media_type not in _LAX_TYPES):
        raise HttpError(
            415, "the body must be JSON", code="unsupported_media_type", hint="send Content-Type: application/json"
        )
    if exchange.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "compressed bodies are not read", code="unsupported_encoding", hint="send it as it is")
    body = decode(await exchange.body(), exchange.services.settings.max_json_depth)
    check_fields(body, fields, exchange.warnings)
    if "name" in body and "model" in fields:
        body = {**body, "model": body.get("model") or body["name"]}
    return convert(body, kind)


def stored_name(name: str) -> str:
    """What the store calls a model: its name here without the tag `latest`. Raises InputError for an empty one."""
    name = name.removesuffix(":latest")
    if not name:
        raise InputError("model must name a model", param="model", hint="GET /api/tags lists them")
    return name


def new_name(name: str, param: str = "model") -> str:
    """A name to be given. Raises InputError for one with a tag, which the store does not have."""
    plain = stored_name(name)
    if ":" in plain:
        hint = f"call it {plain.replace(':', '-')[:128]}"
        raise InputError("names here have no tag but latest", param=param, hint=hint)
    return plain


def keep_alive(exchange: Exchange, value: float | str | None) -> float | None:
    """How long a model is to stay after this request, in seconds: inf for as long as it can, None if nothing is said.

    It concerns every caller of the model, so beyond loopback it takes the scope `manage`. Raises InputError.
    """
    if value is None:
        return None
    seconds = _seconds(value) if isinstance(value, str) else float(value)
    if seconds < 0:
        seconds = math.inf
    if "manage" not in exchange.scopes:
        exchange.warnings.append("keep_alive ignored: this key lacks the scope manage")
        return None
    return seconds


def _seconds(text: str) -> float:
    try:
        return float(text) if math.isfinite(float(text)) else -1.0
    except ValueError:
        pass
    if not _DURATION.fullmatch(text):
        raise InputError("keep_alive must be seconds or a duration such as 5m", param="keep_alive")
    total_s = sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))
    return -1.0 if text.startswith("-") and total_s else total_s


def images(texts: Sequence[str] | None, where: str) -> tuple[Image, ...]:
    """Pictures from base64. Raises InputError for what is none, and for an address, which is never fetched."""
    found: list[Image] = []
    if texts and len(texts) > MAX_IMAGES:
        raise InputError(f"at most {MAX_IMAGES} images", param=where)
    for index, text in enumerate(texts or ()):
        try:
            data = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            raise InputError(f"{where}[{index}] is not base64", param=where, hint="send the picture itself") from None
        found.append(Image(data, _media_type(data, f"{where}[{index}]")))
    return tuple(found)


def _media_type(data: bytes, where: str) -> str:
    for head, media_type in _KINDS:
        if data.startswith(head):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise InputError(f"{where} is none of the kinds of pictures that are known", param=where, hint="PNG, JPEG, WebP")


def think(value: bool | str | None, warnings: list[str]) -> bool | None:
    """Whether to think; a degree means yes, with a warning."""
    if isinstance(value, str):
        warnings.append("think honoured only as on or off: the engine knows no degrees")
        return True
    return value
