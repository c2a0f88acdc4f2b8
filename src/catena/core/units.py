"""Units: SI symbols that a signature may name, and human forms of bytes and durations for the edges."""

from __future__ import annotations

import re

from catena.core.errors import InputError

# Symbols of the SI brochure (9th edition, 2019) and of units accepted with it, plus what models count.
BASE = frozenset(
    "m kg s A K mol cd rad sr Hz N Pa J W C V F ohm S Wb T H lm lx Bq Gy Sv kat degC "  # noqa: SIM905
    "min h d L t bar eV percent token pixel byte bit 1".split()
)
_POWER = re.compile(r"-?[0-9]+")


def check_unit(text: str) -> str:
    """Return `text` if it is a unit: symbols of BASE joined by `*`, `/` and integer powers `^n`; `1` is dimensionless.

    Raises InputError for anything else.
    """
    for factor in text.replace("/", "*").split("*"):
        symbol, has_power, power = factor.partition("^")
        if symbol not in BASE or (has_power and _POWER.fullmatch(power) is None):
            raise InputError(
                f"{text!r} is not a unit", hint="join SI symbols with * and /, with powers as ^n: kg/s, W/m^2"
            )
    return text


def bytes_text(num_bytes: float) -> str:
    """`num_bytes` with a decimal SI prefix, e.g. 98362432 → `98.4 MB`."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(num_bytes) < 1000 or prefix == "T":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} B" if not prefix else f"{num_bytes:.1f} {prefix}B"


def duration_text(seconds: float) -> str:
    """`seconds` for a person: `83 ms`, `2.4 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
