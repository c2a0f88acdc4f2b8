"""What lets a request out: only an open record whose decision says `remote` makes one.

Knows no network. The router decides and records; a provider takes nothing but a Passage.
"""

from __future__ import annotations

import hashlib

from catena.core.errors import RefusedError
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import Cost, Usage, canonical_bytes
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


class Passage:
    """Leave for the request of one recorded decision to go to one remote model. Raises RefusedError without it."""

    def __init__(self, ticket: Ticket, model: RemoteModel) -> None:
        decision = ticket.opened.decision
        told = (decision.outcome, decision.model, decision.model_digest, decision.host)
        if ticket.is_closed or told != ("remote", model.name, model.digest, model.host):
            raise RefusedError("nothing leaves this machine without a recorded decision that says so")
        self.model = model
        self._ticket = ticket

    def leaving(self, body: bytes) -> None:
        """Note the exact bytes that are about to leave. Raises RefusedError once the record was closed."""
        if self._ticket.is_closed:
            raise RefusedError("the record of this request is closed, so nothing more may leave")
        self._ticket.note_sent(body)

    def spent(self, usage: Usage, price_in: float | None, price_out: float | None, currency: str) -> None:
        """Note what the answer cost at prices per million tokens, where the provider told the tokens."""
        if usage.source == "reported" and price_in is not None and price_out is not None:
            amount = (usage.prompt_tokens * price_in + usage.completion_tokens * price_out) / 1e6
            self._ticket.cost = Cost(round(amount, 9), currency)
