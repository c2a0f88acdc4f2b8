"""What every OpenAI answer carries: its id, when it was made, which model, and that model's fingerprint."""

from __future__ import annotations

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
