"""Content at rest: each item has a key of its own, and is forgotten for good with that key."""

from catena.reach.vault.content import SealedReader, SealedWriter, bind, slot_of
from catena.reach.vault.vault import Vault

__all__ = ["SealedReader", "SealedWriter", "Vault", "bind", "slot_of"]
