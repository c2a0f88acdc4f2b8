"""Layered configuration: defaults < `catena.toml` < environment (`CATENA__REACH__PORT`) < flag, with origins.

Unknown keys are refused with the nearest known name. Secrets are never settings.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from catena.core.errors import ConfigError
from catena.core.settings import Settings

PREFIX = "CATENA__"
# Names under which a secret might be written into the file.
SECRETS = frozenset({"key", "api_key", "apikey", "token", "api_token", "secret", "password", "authorization"})
_QUOTED = re.compile(r"(?<=Invalid enum value )\S+|'[^']*'")


class Loaded(NamedTuple):
    """The settings and, for each `section.key`, where its value came from."""

    settings: Settings
    origins: dict[str, str]


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The state folder: `CATENA_HOME`, else `$XDG_DATA_HOME/catena`, else `~/.local/share/catena`."""
    if named := environ.get("CATENA_HOME"):
        return Path(named).expanduser().absolute()
    base = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "catena"


def open_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The state folder, made readable by its owner only if it does not exist yet."""
    folder = home(environ)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the state folder {folder} cannot be made: {error.strerror}", hint="set CATENA_HOME to a writable folder"
        ) from None
    return folder


def load(folder: Path, *, environ: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read `catena.toml` in `folder` (it may be missing), then `environ`, then `flags` (`{"reach.port": 7500}`).

    Raises ConfigError naming the origin, the key and the nearest known key.
    """
    fields = _fields()
    values: dict[str, Any] = {}
    origins = dict.fromkeys(fields, "default")
    for origin, layer in (
        ("catena.toml", _from_file(folder / "catena.toml", fields)),
        ("environment", _from_environment(environ, fields)),
        ("flag", dict(flags or {})),
    ):
        for key, value in layer.items():
            _check_known(key, fields, origin)
            values[key] = _convert(key, value, fields[key], origin)
            origins[key] = origin
    sections: dict[str, Any] = {}
    for key, value in values.items():
        *tables, name = key.split(".")
        table = sections
        for one in tables:
            table = table.setdefault(one, {})
        table[name] = value
    return Loaded(msgspec.convert(sections, Settings), origins)


def flatten(settings: Settings) -> dict[str, Any]:
    """`section.key` → value, for showing."""
    return {key: attrgetter(key)(settings) for key in _fields()}


def _fields(struct: type[msgspec.Struct] = Settings, above: str = "") -> dict[str, Any]:
    """Every setting with its type, `section.key` or, in a table of a section, `section.table.key`."""
    fields: dict[str, Any] = {}
    for name, kind in get_type_hints(struct, include_extras=True).items():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            fields |= _fields(kind, f"{above}{name}.")
        else:
            fields[above + name] = kind
    return fields


def _from_file(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="make it readable, or set CATENA_HOME to another folder"
        ) from None
    try:
        tables = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}", hint="mend that line") from None
    layer: dict[str, Any] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"catena.toml: {section!r} stands outside a section", hint="put it under [reach], [run], …"
            )
        layer.update(_leaves(table, f"{section}.", fields))
    return layer


def _leaves(table: Mapping[str, Any], above: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a table and of the tables in it, by their whole names."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        key = above + name
        is_table = isinstance(value, dict) and key not in fields
        found |= _leaves(value, f"{key}.", fields) if is_table else {key: value}
    return found


def _from_environment(environ: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            key = variable.removeprefix(PREFIX).lower().replace("__", ".")
            kind = fields.get(key)
            is_list, is_optional = "tuple" in str(kind), type(None) in get_args(kind)
            layer[key] = (
                [item for item in text.split(",") if item] if is_list else (text or None) if is_optional else text
            )
    return layer


def _check_known(key: str, fields: Mapping[str, Any], origin: str) -> None:
    if key not in fields:
        near = difflib.get_close_matches(key, fields, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "see `catena config show`"
        raise ConfigError(f"{origin}: there is no setting {key!r}", hint=hint, param=key)


def _convert(key: str, value: Any, kind: Any, origin: str) -> Any:
    if (table := _table(kind)) is not None:
        return _convert_tables(key, value, table, origin)
    try:
        return msgspec.convert(value, kind, strict=origin == "catena.toml")
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {key} = {value!r} is not valid: {error}", param=key) from None


def _table(kind: Any) -> type[msgspec.Struct] | None:
    """The struct of a setting that is a list of tables."""
    inner = get_args(kind)
    is_table = bool(inner) and isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct)
    return inner[0] if is_table else None


def _convert_tables(key: str, value: Any, kind: type[msgspec.Struct], origin: str) -> Any:
    """`value` as structs of `kind`. Values are never quoted: somebody may have put a secret there."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, dict | kind) for one in value):
        if not value and origin == "environment":
            return ()
        raise ConfigError(
            f"{origin}: {key} must be a list of tables", hint=f"write [[{key}]] in catena.toml", param=key
        )
    fields = get_type_hints(kind)
    found: list[Any] = []
    for index, one in enumerate(value):
        where = f"{key}[{index}]"
        for name in one if isinstance(one, dict) else ():
            _check_field(name, fields, where, origin)
        try:
            found.append(msgspec.convert(one, kind))
        except msgspec.ValidationError as error:
            what = _QUOTED.sub("the value", str(error).replace("`$.", f"`{where}."))
            raise ConfigError(f"{origin}: {where} is not valid: {what}", param=where) from None
    return tuple(found)


def _check_field(name: str, fields: Mapping[str, Any], where: str, origin: str) -> None:
    if name in fields:
        return
    if name in SECRETS:
        raise ConfigError(
            f"{origin}: {where} holds a secret, which no setting may",
            hint="put it into an environment variable and name that in key_env; then change it where it was issued",
            param=f"{where}.{name}",
        )
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields)}"
    raise ConfigError(f"{origin}: there is no setting {name!r} in {where}", hint=hint, param=f"{where}.{name}")
