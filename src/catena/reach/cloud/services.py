"""The table of known services: where each is, what its key variable is called, and how it differs from its dialect."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources

import msgspec
from msgspec import Struct


class Service(Struct, frozen=True, forbid_unknown_fields=True):
    """One row. `base_url` is empty where every customer has an own one; `source` is where the facts were read."""

    title: str
    kind: str
    source: str
    base_url: str = ""
    key_env: str = ""
    quirks: tuple[str, ...] = ()
    note: str = ""


@functools.cache
def services() -> dict[str, Service]:
    """Every known service by name."""
    text = resources.files("catena.reach.cloud").joinpath("services.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Service])
