"""What the audit log holds of bytes that are about to leave for another machine; durable before the first one goes."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Egress(Struct, frozen=True, tag="egress", omit_defaults=True):
    """Exactly these bytes may leave under the open request `receipt`; one record for each attempt, counted by `serial`.

    `digest` is sha256(salt || the bytes as sent), with every credential in their headers replaced by `sha256:` and the
    hex digits of sha256(salt || credential); `num_bytes` is their number as sent. `kind` is a `request`, or the opening
    of a `tunnel` through a proxy. `host` is the recipient as it was named, `address` where the bytes really go, and
    `certificate` the SHA-256 of the certificate (DER) that it proved to hold; None: without TLS. `lookups` are the
    names that the system's resolver was asked for on the way there since the record before.

    `policy` is the digest of the policy that let them go, `rules` what fired, `labels` what they are worth, and
    `substitutions` how many stand-ins of each type are in them.
    """

    receipt: str
    at_ns: int
    opened_index: int
    serial: int
    digest: str
    num_bytes: int
    host: str
    kind: Literal["request", "tunnel"] = "request"
    address: str = ""
    certificate: str | None = None
    tls: str = ""
    proxy: str = ""
    lookups: tuple[str, ...] = ()
    policy: str = ""
    rules: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    substitutions: dict[str, int] = {}
