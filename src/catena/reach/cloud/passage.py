"""What lets a request out: an open record whose decision says `remote`, and the policy's clearance of its content.

Knows no network. The router decides and records; a provider takes nothing but a Passage, and sends what it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from catena.core.clock import now_ns
from catena.core.errors import RefusedError
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import Cost, Egress, Usage, canonical_bytes
from catena.reach.cloud.departure import Way, hidden
from catena.reach.privacy.clearance import Clearance
from catena.reach.ticket import Ticket

FORMAT = "remote"
PREFIX = "remote:sha256:"


class RemoteModel(StoredModel, frozen=True):
    """A model that is somewhere else: `remote_name` at `provider`, which speaks `kind` at `host` (with its port).

    Its manifest has no files. Its digest, `remote:sha256:…`, is of its description and says nothing of any weights.
    """

    provider: str
    kind: str
    host: str
    remote_name: str


def remote_model(provider: str, kind: str, host: str, remote_name: str) -> RemoteModel:
    """The description of one remote model."""
    name = f"{provider}/{remote_name}"
    facts: dict[str, str | int | float | bool] = {
        "provider": provider,
        "kind": kind,
        "host": host,
        "model": remote_name,
    }
    source = f"provider:{provider}"
    manifest = Manifest(name, "generate", FORMAT, (), "unknown", Provenance(source), facts=facts)
    digest = PREFIX + hashlib.sha256(canonical_bytes([provider, kind, host, remote_name])).hexdigest()
    return RemoteModel(manifest, digest, {}, provider, kind, host, remote_name)


class Keeps(Protocol):
    """Keeps the bytes that leave, on this machine and encrypted."""

    async def keep(self, record: Egress, shown: bytes, /) -> None:
        """Keep `shown`, of which `record` holds the digest. Raises AuditError."""
        ...


class Passage:
    """Leave for the cleared `request` of one recorded decision to go to one remote model. Raises RefusedError without.

    `clearance` says what may leave, under which policy and rule, and how many stand-ins are in it.
    """

    def __init__(self, ticket: Ticket, model: RemoteModel, clearance: Clearance) -> None:
        decision = ticket.opened.decision
        told = (decision.outcome, decision.model, decision.model_digest, decision.host)
        if ticket.is_closed or told != ("remote", model.name, model.digest, model.host):
            raise RefusedError("nothing leaves this machine without a recorded decision that says so")
        clearance.check()
        self.model = model
        self.clearance = clearance
        self.request = clearance.request
        self.keeper: Keeps | None = None
        self._ticket = ticket

    def leaving(self, body: bytes) -> None:
        """Note the exact bytes that are about to leave. Raises RefusedError once the record was closed."""
        if self._ticket.is_closed:
            raise RefusedError("the record of this request is closed, so nothing more may leave")
        self._ticket.note_sent(body)
        self.clearance.left(len(body))

    async def departing(self, way: Way, wire: bytes, credentials: Iterable[str]) -> None:
        """Record the exact bytes of one attempt, durably, and keep them where that is wanted; then they may leave.

        Raises RefusedError once the record was closed, AuditError where the record or the bytes cannot be kept.
        """
        ticket, clearance = self._ticket, self.clearance
        if ticket.is_closed:
            raise RefusedError("the record of this request is closed, so nothing more may leave")
        shown = hidden(wire, credentials, ticket.digest)
        digest, num_bytes = ticket.digest(shown), len(wire)

        def egress(opened_index: int, serial: int, lookups: tuple[str, ...]) -> Egress:
            return Egress(
                receipt=ticket.receipt,
                at_ns=now_ns(),
                opened_index=opened_index,
                serial=serial,
                digest=digest,
                num_bytes=num_bytes,
                host=way.host,
                kind=way.kind,
                address=way.address if way.address != way.host else "",
                certificate=way.certificate,
                tls=way.tls,
                proxy=way.proxy,
                lookups=lookups,
                policy=clearance.policy,
                rules=(clearance.ruling.rule,),
                labels=clearance.labels,
                substitutions=clearance.substitutions,
            )

        record = await ticket.depart(egress)
        if self.keeper is not None:
            await self.keeper.keep(record, shown)

    def looked_up(self, name: str) -> None:
        """Note that the system's resolver is about to be asked for `name`."""
        self._ticket.note_lookup(name)

    def returned(self, data: bytes) -> None:
        """Count what came back."""
        self._ticket.note_returned(data)

    def spent(self, usage: Usage, price_in: float | None, price_out: float | None, currency: str) -> None:
        """Note what the answer cost at prices per million tokens, where the provider told the tokens."""
        if usage.source == "reported" and price_in is not None and price_out is not None:
            amount = (usage.prompt_tokens * price_in + usage.completion_tokens * price_out) / 1e6
            self._ticket.cost = Cost(round(amount, 9), currency)
