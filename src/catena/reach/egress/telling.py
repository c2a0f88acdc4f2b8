"""Who got what: the departures of a log as rows, and sums of them for each provider and host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from catena.core.clock import iso, now_ns
from catena.core.errors import InputError
from catena.watch.departures import Departed, Left

_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Row(Struct, frozen=True):
    """One departure, as a person reads it. `num_bytes` left for `host`; `model` is what was asked for."""

    receipt: str
    serial: int
    at: str
    provider: str
    model: str
    kind: str
    host: str
    address: str
    proxy: str
    certificate: str | None
    tls: str
    num_bytes: int
    digest: str
    policy: str
    rules: tuple[str, ...]
    labels: tuple[str, ...]
    substitutions: dict[str, int]
    lookups: tuple[str, ...]


class Total(Struct, frozen=True):
    """All that one host got on behalf of one provider, and what came back.

    `lookups` were asked of the system's resolver. `incomplete` counts requests whose closing record counts other
    departures than the log holds; it is 0 in a log that nobody cut.
    """

    provider: str
    host: str
    requests: int = 0
    departures: int = 0
    tunnels: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    lookups: int = 0
    incomplete: int = 0


def provider_of(left: Departed | Left) -> str:
    """The name that the settings give to the recipient."""
    return left.opened.decision.model.partition("/")[0]


def row(left: Left) -> Row:
    """`left` for people."""
    egress = left.egress
    return Row(
        receipt=egress.receipt,
        serial=egress.serial,
        at=iso(egress.at_ns),
        provider=provider_of(left),
        model=left.opened.decision.model,
        kind=egress.kind,
        host=egress.host,
        address=egress.address or egress.host,
        proxy=egress.proxy,
        certificate=egress.certificate,
        tls=egress.tls,
        num_bytes=egress.num_bytes,
        digest=egress.digest,
        policy=egress.policy,
        rules=egress.rules,
        labels=egress.labels,
        substitutions=egress.substitutions,
        lookups=egress.lookups,
    )


def totals(departed: Iterable[Departed]) -> list[Total]:
    """Sums for each provider and host, by name."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for request in departed:
        host = request.opened.decision.host or ""
        found = sums.setdefault((provider_of(request), host), dict.fromkeys(Total.__struct_fields__[2:], 0))
        found["requests"] += 1
        found["departures"] += len(request.left)
        found["incomplete"] += not request.is_complete
        for left in request.left:
            found["tunnels"] += left.egress.kind == "tunnel"
            found["bytes_out"] += left.egress.num_bytes
            found["lookups"] += len(left.egress.lookups)
        if request.closed is not None:
            found["bytes_in"] += request.closed.received_bytes
            found["lookups"] += len(request.closed.lookups)
    return [Total(provider, host, **found) for (provider, host), found in sorted(sums.items())]


def since_ns(text: str | None) -> int:
    """Unix ns of a time: `30m`, `24h` or `7d` ago, a date, or RFC 3339; None: 0. Raises InputError."""
    if text is None:
        return 0
    if match := _AGO.fullmatch(text):
        return now_ns() - int(timedelta(**{_UNITS[match[2]]: int(match[1])}).total_seconds()) * 10**9
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is no time", hint="write 24h, 7d, 2026-12-01 or 2026-12-01T08:00:00Z", param="since"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1e6) * 1000
