"""Reads the small files that lie beside weights, within bounds: JSON objects, chat templates, names of other files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from catena.core.errors import FormatError, UnsupportedError
from catena.store.window import opened

MAX_JSON_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 64 << 20
MAX_TEMPLATE_BYTES = 1 << 20
MAX_NAME_CHARS = 512
MAX_COUNT = 1 << 53
_Value = TypeVar("_Value", str, int, bool, float, list[str], dict[str, str], dict[str, msgspec.Raw])

_PART = re.compile(r"-(\d{5})-of-\d{5}\.[a-z]+$")

Object = dict[str, msgspec.Raw]


def json_object(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Object:
    """The JSON object in a file, checked throughout but not built: each value is its bytes. Raises FormatError."""
    with opened(path) as window:
        if window.size > max_bytes:
            raise FormatError("a JSON file beside the model is too large")
        try:
            return msgspec.json.decode(window.read(0, window.size), type=Object)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise FormatError("a JSON file beside the model is no JSON object") from None


def value(config: Mapping[str, msgspec.Raw], key: str, kind: type[_Value], default: _Value) -> _Value:
    """The value under `key` if it is of this kind, else the default."""
    try:
        return msgspec.json.decode(config[key], type=kind) if key in config else default
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return default


def count(config: Mapping[str, msgspec.Raw], key: str) -> int:
    """The whole number under `key`; 0 for none, a negative one, or one that nothing can have so many of."""
    found = value(config, key, int, 0)
    return found if 0 < found < MAX_COUNT else 0


def template(path: Path) -> str:
    """The chat template in a file. Raises FormatError."""
    with opened(path) as window:
        if window.size > MAX_TEMPLATE_BYTES:
            raise FormatError("the chat template is longer than 1 MiB")
        try:
            return window.read(0, window.size).decode()
        except UnicodeDecodeError:
            raise FormatError("the chat template is not UTF-8") from None


def chat_template(paths: Mapping[str, Path]) -> str | None:
    """The chat template beside the weights, or in the tokenizer's configuration. Raises FormatError."""
    if "template" in paths:
        return template(paths["template"])
    if "tokenizer_config" not in paths:
        return None
    config = json_object(paths["tokenizer_config"], max_bytes=MAX_TOKENIZER_BYTES)
    return value(config, "chat_template", str, "") or None


def pooling(paths: Mapping[str, Path], known: Mapping[str, str]) -> str:
    """How a sentence-transformers pooling configuration says that tokens become one vector; empty if none is there.

    Raises UnsupportedError for a way that is not `known`, FormatError.
    """
    if "pooling" not in paths:
        return ""
    config = json_object(paths["pooling"])
    modes = [key for key in config if key.startswith("pooling_mode") and value(config, key, bool, False)]
    if len(modes) != 1 or modes[0] not in known:
        names = " and ".join(known.values())
        raise UnsupportedError("the model pools in a way that is not known here", hint=f"known are {names}")
    return known[modes[0]]


def part_number(name: str) -> int:
    """The number in a name that ends in -00002-of-00003 before its suffix; 0 for any other."""
    shape = _PART.search(name)
    return int(shape[1]) if shape else 0


def is_within(name: str) -> bool:
    """Whether `name`, as a header or index states it, names a file in the same folder or below it, and nothing else."""
    parts = name.split("/")
    return (
        0 < len(name) <= MAX_NAME_CHARS
        and name.isprintable()
        and not any(letter in name for letter in '\\:*?<>|"')
        and all(part == part.strip() and part not in ("", ".", "..") for part in parts)
    )
