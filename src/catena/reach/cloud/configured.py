"""From a provider's settings to a provider that can be asked: every wrong setting is an error before anything runs."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from cryptography import x509
from msgspec import Struct

from catena.core import registry
from catena.core.errors import ConfigError
from catena.core.settings import ProviderSettings
from catena.reach.cloud.keys import Key
from catena.reach.cloud.services import Service, services
from catena.run.dialects.dialect import Adaptable, Dialect

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}", re.IGNORECASE)
_ENTRY = re.compile(r"[^/\s]+/[^/\s]+")


class End(Struct, frozen=True):
    """One remote end, ready to be asked. `host` is as the audit log names it, with a port that is not the usual one."""

    name: str
    kind: str
    base_url: str
    host: str
    dialect: Dialect
    key: Key
    settings: ProviderSettings
    authorities: bytes = b""


def configured(providers: Iterable[ProviderSettings], environ: Mapping[str, str]) -> dict[str, End]:
    """The remote ends by name. Raises ConfigError naming the provider, the setting, and the nearest right value."""
    found: dict[str, End] = {}
    for index, one in enumerate(providers):
        if not _NAME.fullmatch(one.name):
            raise ConfigError(
                f"reach.providers[{index}]: {one.name!r} is no name for a provider",
                hint="use lower-case letters, digits, '.', '_' and '-', and begin with a letter or digit",
                param="name",
            )
        if one.name in found:
            raise ConfigError(f"two providers are called {one.name!r}", hint="give one another name", param="name")
        found[one.name] = _end(one, environ)
    return found


def _end(one: ProviderSettings, environ: Mapping[str, str]) -> End:
    service = _service(one)
    kind = one.kind or (service.kind if service else "")
    if not kind:
        raise _wrong(one, "kind", "is missing", f"one of {', '.join(registry.names('dialects'))}; or name a service")
    if kind not in registry.names("dialects"):
        raise _wrong(one, "kind", f"{kind!r} is unknown", _nearest(kind, registry.names("dialects")))
    base_url = (one.base_url or (service.base_url if service else "")).rstrip("/")
    host = _host(one, base_url)
    dialect = cast(Dialect, registry.find("dialects", kind))
    quirks = one.quirks if one.quirks is not None else service.quirks if service and service.kind == kind else ()
    if quirks:
        dialect = _adapted(one, dialect, quirks)
    if not one.models:
        raise _wrong(one, "models", "is empty", 'write ["*"], patterns, or names')
    _check_proxy(one, base_url)
    return End(one.name, kind, base_url, host, dialect, _key(one, service, environ), one, _authorities(one))


def _service(one: ProviderSettings) -> Service | None:
    if not one.service:
        return None
    if one.service not in services():
        raise _wrong(one, "service", f"{one.service!r} is unknown", _nearest(one.service, services()))
    return services()[one.service]


def _adapted(one: ProviderSettings, dialect: Dialect, quirks: Iterable[str]) -> Dialect:
    known = dialect.known_quirks if isinstance(dialect, Adaptable) else frozenset[str]()
    for quirk in quirks:
        if quirk not in known:
            raise _wrong(one, "quirks", f"{quirk!r} is unknown to {dialect.name}", _nearest(quirk, known))
    assert isinstance(dialect, Adaptable)
    return dialect.adapted(tuple(quirks))


def _host(one: ProviderSettings, base_url: str) -> str:
    """The host of a good base URL; what is wrong with a bad one never quotes it, as it may hold a password."""
    if not base_url:
        raise _wrong(one, "base_url", "is missing", 'for example "https://api.example.com/v1"')
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise _wrong(one, "base_url", "is not an address", "check its host and port") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise _wrong(one, "base_url", "is not an address", "it begins with https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise _wrong(one, "base_url", "holds a name or password", "name the key's variable in key_env instead")
    if parts.query or parts.fragment:
        raise _wrong(one, "base_url", "has a query or fragment", "cut it off after the path")
    if parts.scheme == "http" and not _is_loopback(parts.hostname) and not one.allow_plain_http:
        raise _wrong(
            one,
            "base_url",
            f"sends everything to {parts.hostname} unencrypted",
            "use https://, or set allow_plain_http = true for a network that you trust",
        )
    usual = 443 if parts.scheme == "https" else 80
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host if port in (None, usual) else f"{host}:{port}"


def _key(one: ProviderSettings, service: Service | None, environ: Mapping[str, str]) -> Key:
    if one.key_env and not _VARIABLE.fullmatch(one.key_env):
        raise _wrong(
            one,
            "key_env",
            "is not the name of an environment variable",
            "if it is the key itself: take it out of the file, and change it where it was issued",
        )
    if one.key_keyring and not _ENTRY.fullmatch(one.key_keyring):
        raise _wrong(one, "key_keyring", "is not SERVICE/USER", "as in `keyring set SERVICE USER`")
    variable = one.key_env or ("" if one.key_keyring or service is None else service.key_env)
    return Key(one.name, variable, one.key_keyring, environ)


def _check_proxy(one: ProviderSettings, base_url: str) -> None:
    """Only what is encrypted from end to end may pass a proxy."""
    if not one.proxy:
        return
    try:
        parts = urlsplit(one.proxy)
        is_good = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.path.strip("/") and parts.port
        )
    except ValueError:
        is_good = False
    if not is_good or "@" in one.proxy:
        raise _wrong(one, "proxy", "is not http://HOST:PORT", "it takes no name and no password")
    if not base_url.startswith("https://"):
        raise _wrong(one, "proxy", "would see everything", "it is for a base_url of https:// only")


def _authorities(one: ProviderSettings) -> bytes:
    """The certificates that `ca_file` holds; empty without one."""
    if not one.ca_file:
        return b""
    try:
        data = Path(one.ca_file).expanduser().read_bytes()
    except OSError as error:
        raise _wrong(one, "ca_file", f"cannot be read: {error.strerror}", "name a file of PEM certificates") from None
    try:
        x509.load_pem_x509_certificates(data)
    except ValueError:
        raise _wrong(one, "ca_file", "holds no certificate", "it begins with -----BEGIN CERTIFICATE-----") from None
    return data


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"


def _wrong(one: ProviderSettings, setting: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"provider {one.name!r}: {setting} {what}", hint=hint, param=setting)
