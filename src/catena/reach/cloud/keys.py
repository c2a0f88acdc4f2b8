"""Where a provider's key comes from when it is needed: an environment variable, or the system's keyring."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from catena.core.errors import MissingExtraError, ProviderError


class Key:
    """The key of one provider; it is never shown. `variable` is looked at first, then `entry` (`SERVICE/USER`)."""

    def __init__(self, provider: str, variable: str, entry: str, environ: Mapping[str, str]) -> None:
        self._provider = provider
        self._variable = variable
        self._entry = entry
        self._environ = environ

    @property
    def is_needed(self) -> bool:
        """Whether configuration names a place for it at all."""
        return bool(self._variable or self._entry)

    def read(self) -> str | None:
        """The key; None where none is configured. Raises ProviderError if it is not there or cannot be sent."""
        if not self.is_needed:
            return None
        key = self._environ.get(self._variable, "").strip() if self._variable else ""
        if not key and self._entry:
            key = (_from_keyring(self._entry) or "").strip()
        if not key:
            places = [f"the variable {self._variable}"] if self._variable else []
            places += [f"the keyring entry {self._entry}"] if self._entry else []
            raise ProviderError(
                f"the key of provider {self._provider!r} is not there",
                hint=f"whoever runs the gateway: set {' or '.join(places)}",
            )
        if not (key.isascii() and key.isprintable()):
            raise ProviderError(
                f"the key of provider {self._provider!r} holds characters that no header can carry",
                hint="whoever runs the gateway: copy it again",
            )
        return key


def _from_keyring(entry: str) -> str | None:
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        raise MissingExtraError("keyring", "keyring") from None
    service, _, user = entry.partition("/")
    try:
        return keyring.get_password(service, user)
    except keyring.errors.KeyringError:
        raise ProviderError(
            f"the system's keyring does not give {entry}", hint="whoever runs the gateway: unlock it"
        ) from None
