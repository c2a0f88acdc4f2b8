"""A proof that one request was recorded: what `catena audit prove` writes and the stand-alone verifier reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError
from catena.core.messages import Closed, Opened
from catena.watch import pairing, verifier


class ProvedRecord(Struct, frozen=True):
    """An entry (base64), where it stands, and its inclusion path (base64 hashes, lowest first)."""

    index: int
    entry: str
    path: tuple[str, ...]


class Proof(Struct, frozen=True):
    """Everything needed to check a receipt offline with the verifier key. `salt` (base64) only where asked for."""

    format: str
    receipt: str
    checkpoint: str
    records: tuple[ProvedRecord, ...]
    salt: str | None = None


def check(proof: Proof | dict[str, Any], verifier_key: str) -> tuple[Opened, Closed | None]:
    """Check `proof` and return what it proves. Raises IntegrityError with what does not hold."""
    plain = msgspec.to_builtins(proof)
    try:
        verifier.check_proof(plain, verifier_key)
    except verifier.Failed as error:
        raise IntegrityError(f"the proof does not hold: {error}") from None
    records = [pairing.decode(verifier.decode_base64(record["entry"])) for record in plain["records"]]
    opened, closed = records[0], records[1] if len(records) == 2 else None
    if not isinstance(opened, Opened) or not isinstance(closed, Closed | None):
        raise IntegrityError("the proof does not hold: its records are not an opening and a closing one")
    return opened, closed


def checker(verifier_key: str) -> Callable[[Any], None]:
    """A function that raises IntegrityError for a proof that does not hold under `verifier_key`."""

    def check_one(proof: Proof | dict[str, Any]) -> None:
        check(proof, verifier_key)

    return check_one
