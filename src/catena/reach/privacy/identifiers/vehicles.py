"""The check of vehicle identification numbers (ISO 3779, 49 CFR 565)."""

from __future__ import annotations

_VALUES = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", map(int, "123456781234579234567890123456789"), strict=True))
_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def vin(number: str) -> bool:
    """17 characters with letters and digits, whose ninth is their weighted sum mod 11 (X for ten)."""
    if number.isdigit() or number.isalpha():
        return False
    total = sum(_VALUES[char] * weight for char, weight in zip(number, _WEIGHTS, strict=True))
    return "0123456789X"[total % 11] == number[8]
