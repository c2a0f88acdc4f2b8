"""The headers anthropic-version and anthropic-beta: accepted, warned about or refused by table."""

from __future__ import annotations

import re

from catena.core.errors import UnsupportedError
from catena.reach.gateway.exchange import Exchange, header_text
from catena.reach.gateway.protocols.anthropic import fields

VERSION_HEADER = "anthropic-version"
BETA_HEADER = "anthropic-beta"
NEWEST = "2026-10-21"
MAX_BETAS = 64
_DATE = re.compile(r"-(?:\d{4}-\d\d-\d\d|\d{8})$")


def check_headers(exchange: Exchange) -> None:
    """Warn of what is not honoured; UnsupportedError for a beta that changes what an answer is and is not here.

    A request without a version is answered too, as many programs written by hand send none.
    """
    version = exchange.headers.get(VERSION_HEADER, NEWEST)
    known = fields.VERSIONS.get(version)
    if known is None or known.treatment != "honoured":
        exchange.warnings.append(f"anthropic-version {_shown(version)} ignored: the answer is that of {NEWEST}")
    for name in exchange.headers.get(BETA_HEADER, "").split(",")[:MAX_BETAS]:
        _check_beta(name.strip(), exchange.warnings)


def _check_beta(name: str, warnings: list[str]) -> None:
    if not name:
        return
    found = fields.BETAS.get(_DATE.sub("", name))
    if found is None:
        warnings.append(f"anthropic-beta {_shown(name)} ignored: it is not known here")
    elif found.treatment == "ignored":
        warnings.append(f"anthropic-beta {name} ignored: {found.note}")
    elif found.treatment == "refused":
        raise UnsupportedError(f"anthropic-beta {name} is not supported: {found.note}", param=BETA_HEADER)


def _shown(value: str) -> str:
    return header_text(value[:64])
