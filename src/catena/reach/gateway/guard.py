"""Who may speak to the door at all: the Host header against DNS rebinding, the Origin header against other pages.

An Origin that equals the Host proves nothing by itself: a name that an attacker rebinds to this machine matches too.
So the Host must be an address of ours, `localhost`, or a configured name; only then is Origin compared with it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from catena.core.errors import ForbiddenError
from catena.reach.access import plain_address
from catena.reach.gateway.exchange import CLOSE, Exchange
from catena.reach.gateway.failures import HttpError

PREFLIGHT_AGE_S = 600
MAX_KNOWN = 256
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
EXPOSED = (
    "catena-receipt, catena-warning, inference-header-content-length, "
    "x-request-id, request-id, retry-after, server-timing"
)


class Guard:
    """Checks Host and Origin, and writes CORS headers for configured origins only."""

    def __init__(self, allowed_hosts: Iterable[str], cors_origins: Iterable[str]) -> None:
        self._names = {name.lower().rstrip(".") for name in allowed_hosts} | {"localhost"}
        self._known: set[tuple[str, str]] = set()
        self._origins = frozenset(origin.lower().rstrip("/") for origin in cors_origins)

    def check(self, exchange: Exchange) -> None:
        """Let the request pass, or raise HttpError 400 (no usable Host) or ForbiddenError.

        For a configured origin, CORS headers are added to whatever answer follows.
        """
        host = exchange.headers.get("host", "")
        if "host" in exchange.repeated:
            raise HttpError(400, "more than one Host header", code="bad_host", headers=CLOSE)
        server = exchange.scope.get("server")
        if not self._is_known(host, str(server[0]) if server else ""):
            raise ForbiddenError(
                "this Host is not served here",
                hint="use an address of this machine or localhost, or add the name to reach.allowed_hosts",
            )
        origin = exchange.headers.get("origin")
        if origin is None:
            return
        lower = origin.lower().rstrip("/")
        if "origin" not in exchange.repeated:
            if lower in self._origins:
                exchange.headers_out |= {
                    "access-control-allow-origin": origin,
                    "vary": "origin",
                    "access-control-expose-headers": EXPOSED,
                    "cross-origin-resource-policy": "cross-origin",
                }
                return
            if lower in (f"http://{host.lower()}", f"https://{host.lower()}"):
                return
        raise ForbiddenError("pages of this Origin may not ask here", hint="add it to reach.cors_origins")

    def preflight(self, exchange: Exchange, allow: str) -> tuple[tuple[str, str], ...]:
        """Headers that answer an OPTIONS request; CORS permission only for a configured origin."""
        headers = [("allow", allow)]
        if "access-control-allow-origin" in exchange.headers_out:
            wanted = exchange.headers.get("access-control-request-headers", "")
            names = [name.strip().lower() for name in wanted.split(",")]
            safe = [name for name in names if name and name.replace("-", "").isalnum() and name.isascii()]
            headers += [
                ("access-control-allow-methods", allow),
                ("access-control-allow-headers", ", ".join(safe)),
                ("access-control-max-age", str(PREFLIGHT_AGE_S)),
            ]
        return tuple(headers)

    def _is_known(self, host: str, own: str) -> bool:
        """`_is_ours`, with the last that were kept in mind."""
        key = (host, own)
        if key in self._known:
            return True
        if not self._is_ours(host, own):
            return False
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(key)
        return True

    def _is_ours(self, host: str, own: str) -> bool:
        """Whether Host header `host` names this machine; `own` is the address the request came in on."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if not _HOST.fullmatch(host):
            return False
        if name.rstrip(".") in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return plain_address(address).is_loopback or str(plain_address(address)) == _own(own)


def _own(text: str) -> str:
    try:
        return str(plain_address(ipaddress.ip_address(text)))
    except ValueError:
        return ""
