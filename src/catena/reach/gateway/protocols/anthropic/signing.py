"""Signatures of thinking blocks: a receipt and an HMAC under a secret of this machine, so nothing need be stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Literal

from catena.core.ids import is_id

_MARK = "ctn1"
# Where the gateway has no salts (it then has no audit log either), signatures last as long as the process.
_process_secret = secrets.token_bytes(32)

Salt = Callable[[str], bytes] | None


def sign(salt: Salt, receipt: str, thinking: str) -> str:
    """The signature of `thinking` in the answer with this `receipt`."""
    return f"{_MARK}.{receipt}.{_seal(salt, receipt, thinking)}"


def check(salt: Salt, signature: str, thinking: str) -> Literal["ours", "foreign", "changed"]:
    """Whether this gateway signed `thinking`; `foreign`: somebody else signed something, `changed`: it is not this."""
    mark, _, rest = signature.partition(".")
    receipt, _, seal = rest.partition(".")
    if mark != _MARK or not is_id(receipt, "rcpt"):
        return "foreign"
    is_right = hmac.compare_digest(seal.encode("utf-8", "replace"), _seal(salt, receipt, thinking).encode())
    return "ours" if is_right else "changed"


def _seal(salt: Salt, receipt: str, thinking: str) -> str:
    # A salt of its own: that of the receipt may be given to whoever holds it.
    secret = salt(f"{receipt} thinking") if salt is not None else _process_secret
    return hmac.digest(secret, f"{receipt}\0{thinking}".encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
