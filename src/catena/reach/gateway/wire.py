"""JSON at the door: read strictly (depth, duplicate names, numbers, UTF-8), with every field known or refused."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, TooLargeError, UnsupportedError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError

Treatment = Literal["honoured", "ignored", "refused"]
T = TypeVar("T")

# A string is swallowed whole, also an unterminated one, so that the scan stays linear.
_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


class Field(Struct, frozen=True):
    """What becomes of a parameter. An `ignored` or `refused` one passes unmentioned with a value in `harmless`."""

    treatment: Treatment
    note: str
    harmless: tuple[Any, ...] = ()


def honoured(note: str) -> Field:
    """It does what it says; `note` gives the bounds."""
    return Field("honoured", note)


def ignored(note: str, *harmless: object) -> Field:
    """It is accepted with a warning, unless its value is one of `harmless`."""
    return Field("ignored", note, harmless)


def refused(note: str, *harmless: object) -> Field:
    """It is refused, unless its value is one of `harmless`."""
    return Field("refused", note, harmless)


async def read_json(exchange: Exchange) -> dict[str, Any]:
    """The body as a JSON object. Raises HttpError 415, 413, 400, or what Exchange.body raises."""
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HttpError(
            415, "the body must be JSON", code="unsupported_media_type", hint="send Content-Type: application/json"
        )
    if exchange.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "compressed bodies are not read", code="unsupported_encoding", hint="send it as it is")
    return decode(await exchange.body(), exchange.services.settings.max_json_depth)


def decode(body: bytes, max_depth: int) -> dict[str, Any]:
    """`body` as a JSON object: RFC 8259, nested at most `max_depth` deep, each name once per object.

    Raises HttpError 400 (invalid_json) or TooLargeError. Never quotes the body.
    """
    check_depth(body, max_depth)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        where = re.search(r"\(byte \d+\)", str(error))
        raise _invalid(f"the body is not valid JSON{' ' + where[0] if where else ''}") from None
    check_names(body)
    if not isinstance(value, dict):
        raise _invalid("the body must be a JSON object")
    return value


def check_depth(body: bytes, max_depth: int) -> None:
    """Refuse nesting deeper than `max_depth` before anything is decoded; linear in the size of the body."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    depth = 0
    for mark in _MARKS.finditer(body):
        sign = mark[0]
        if sign in (b"[", b"{"):
            depth += 1
            if depth > max_depth:
                raise TooLargeError(f"the JSON is nested deeper than {max_depth}", hint="flatten it")
        elif sign in (b"]", b"}"):
            depth -= 1


def check_fields(body: Mapping[str, Any], fields: Mapping[str, Field], warnings: list[str], where: str = "") -> None:
    """Refuse unknown and refused fields of `body`; name the ignored ones in `warnings`, each once.

    `where` (`tools[0].`) is put before their names. Raises HttpError (unknown_parameter, with the nearest known name)
    or UnsupportedError.
    """
    for name, value in body.items():
        field = fields.get(name)
        if field is None:
            raise unknown_field(name, fields, where)
        if field.treatment == "honoured" or value is None or value in field.harmless:
            continue
        if field.treatment == "refused":
            raise UnsupportedError(f"{where}{name} is not supported: {field.note}", param=f"{where}{name}")
        warning = f"{name} ignored: {field.note}"
        if warning not in warnings:
            warnings.append(warning)


def unknown_field(name: str, known: Mapping[str, Any], where: str = "") -> HttpError:
    """The error for a field that is not in the table, with the nearest name that is."""
    shown = name if len(name) <= 64 and name.isprintable() else "(unprintable)"
    near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.6)
    error = HttpError(
        400,
        f"unknown parameter: {where}{shown}",
        code="unknown_parameter",
        hint=f"did you mean {near[0]!r}?" if near else "docs/README.md leads to the list of parameters",
    )
    error.param = f"{where}{shown}"
    return error


def convert(body: Mapping[str, Any], kind: type[T], where: str = "") -> T:
    """`body` as struct `kind`. Raises InputError naming the field in `param`; unknown nested fields are refused.

    `where` is the place of `body` in what was sent, e.g. `tools[0]`.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise misfit(error, where) from None


def misfit(error: msgspec.ValidationError, where: str = "", known: Mapping[str, Any] | None = None) -> InputError:
    """What to say of JSON that is not as a struct wants it: names the field in `param`, never quotes a value.

    `known` are the names that may stand at the top.
    """
    text = str(error)
    found = _PATH.search(text)
    param = ".".join(filter(None, (where, found[1] if found else ""))) or None
    said = text[: found.start()] if found else text
    if unknown := _UNKNOWN.search(said):
        return unknown_field(unknown[1], {} if param else known or {}, f"{param}." if param else "")
    missing = re.search(r"missing required field `([^`]*)`", said)
    if missing:
        param = f"{param}.{missing[1]}" if param else missing[1]
    elif said.startswith("Invalid"):
        said = "the value is none of those allowed"  # msgspec quotes the value, which may be content
    return InputError(f"{param}: {said}" if param else said, param=param)


def check_names(body: bytes) -> None:
    """Refuse JSON, decoded before, in which a name occurs twice in one object: its readers would differ over it."""
    try:
        _NAMES.decode(body.decode())
    except UnicodeDecodeError:
        raise _invalid("the body is not valid JSON") from None
    except ValueError:
        raise _invalid("the body is not valid JSON: a number in it has too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _invalid("the body is not valid JSON: a name occurs twice in one object")
    return value


_NAMES = json.JSONDecoder(object_pairs_hook=_unique)


def _invalid(message: str) -> HttpError:
    return HttpError(400, message, code="invalid_json")
