"""Signatures of thinking blocks: a receipt and an HMAC under a secret of this machine, so nothing need be stored.

A signature also carries the seals that the maker of an answer wants back with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from catena.core.ids import is_id

_MARK = "ctn1"
# Where the gateway has no salts (it then has no audit log either), signatures last as long as the process.
_process_secret = secrets.token_bytes(32)

Salt = Callable[[str], bytes] | None


def sign(salt: Salt, receipt: str, thinking: str, seals: Sequence[str] = ()) -> str:
    """The signature of `thinking`, and of `seals`, in the answer with this `receipt`."""
    carried = base64.urlsafe_b64encode(msgspec.json.encode(seals)).decode() if seals else ""
    return f"{_MARK}.{receipt}.{_seal(salt, receipt, thinking, carried)}{'.' if carried else ''}{carried}"


def check(salt: Salt, signature: str, thinking: str) -> Literal["ours", "foreign", "changed"]:
    """Whether this gateway signed `thinking`; `foreign`: somebody else signed something, `changed`: it is not this."""
    mark, _, rest = signature.partition(".")
    receipt, _, rest = rest.partition(".")
    seal, _, carried = rest.partition(".")
    if mark != _MARK or not is_id(receipt, "rcpt"):
        return "foreign"
    expected = _seal(salt, receipt, thinking, carried)
    is_right = hmac.compare_digest(seal.encode("utf-8", "replace"), expected.encode())
    return "ours" if is_right else "changed"


def carried(signature: str) -> tuple[str, ...]:
    """The seals in a signature that was found to be ours."""
    text = signature.split(".", 3)[3:]
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text[0]), type=tuple[str, ...]) if text else ()
    except (binascii.Error, msgspec.DecodeError):
        return ()


def _seal(salt: Salt, receipt: str, thinking: str, carried: str) -> str:
    # A salt of its own, as that of the receipt may be given to whoever holds it; and one for each form of signature, so
    # that what stands for seals in one cannot pass for thinking in the other.
    label = f"{receipt} seals {carried}" if carried else f"{receipt} thinking"
    secret = salt(label) if salt is not None else hmac.digest(_process_secret, label.encode(), hashlib.sha256)
    return hmac.digest(secret, f"{receipt}\0{thinking}".encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
