"""What every OpenAI answer carries: its id, when it was made, which model, and that model's fingerprint."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from catena.core.clock import now_ns
from catena.reach.gateway.answering import Accepted


class Naming(Struct, frozen=True):
    """`created` in Unix seconds; `fingerprint` is the beginning of the manifest digest."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def of(cls, prefix: str, accepted: Accepted) -> Naming:
        """The id is the receipt's, with `prefix`: one can be found from the other."""
        tail = accepted.receipt.partition("_")[2]
        digest = accepted.model.digest.rpartition(":")[2][:12]
        return cls(f"{prefix}-{tail}", now_ns() // 1_000_000_000, accepted.model.name, f"fp_{digest}")

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that an answer, or chunk of one, of this `kind` begins with."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
