"""Content at rest: each item is encrypted with a key of its own, and forgotten for good when that key is destroyed."""

from catena.reach.vault.content import SealedReader, SealedWriter, bind, slot_of
from catena.reach.vault.vault import Vault

__all__ = ["SealedReader", "SealedWriter", "Vault", "bind", "slot_of"]
