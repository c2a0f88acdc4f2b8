"""C2SP signed notes, verifier keys and checkpoints, with Catena's errors; the checks themselves are the verifier's."""

from __future__ import annotations

import base64
from typing import Protocol

from catena.core.errors import IntegrityError
from catena.watch import verifier
from catena.watch.verifier import Checkpoint, Failed, Key


class Signs(Protocol):
    """A named key that signs."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> Key: ...

    def sign(self, data: bytes, /) -> bytes: ...


def format_key(name: str, public: bytes) -> str:
    """The C2SP verifier key of an Ed25519 public key (32 bytes)."""
    return f"{name}+{verifier.key_id(name, public).hex()}+{base64.b64encode(bytes((1,)) + public).decode()}"


def parse_key(text: str) -> Key:
    """Read a verifier key. Raises IntegrityError."""
    try:
        return verifier.parse_key(text)
    except Failed as error:
        raise IntegrityError(str(error), hint="give the file keys/verifier.vkey of the state folder") from None


def sign_note(text: str, signer: Signs) -> str:
    """`text` (ending in a newline) with one signature line."""
    signature = base64.b64encode(signer.key.id + signer.sign(text.encode())).decode()
    return f"{text}\n\u2014 {signer.name} {signature}\n"


def open_note(note: str, key: Key) -> str:
    """The signed text. Raises IntegrityError."""
    try:
        return verifier.open_note(note, key)
    except Failed as error:
        raise IntegrityError(str(error)) from None


def sign_checkpoint(size: int, root: bytes, signer: Signs) -> str:
    """The signed tree head of `size` entries with `root` (32 bytes); the origin is the key's name."""
    return sign_note(f"{signer.name}\n{size}\n{base64.b64encode(root).decode()}\n", signer)


def open_checkpoint(note: str, key: Key) -> Checkpoint:
    """The tree head that `key` signed in `note`. Raises IntegrityError."""
    try:
        return verifier.open_checkpoint(note, key)
    except Failed as error:
        raise IntegrityError(str(error)) from None


def parse_checkpoint(note: str) -> Checkpoint:
    """The tree head in `note` whoever signed it. Raises IntegrityError if it is not of that form."""
    try:
        return verifier.parse_checkpoint(note.rpartition("\n\n")[0] + "\n")
    except Failed as error:
        raise IntegrityError(str(error)) from None
