"""How to sample, as protocols ask for it: the parameters and bounds that they have in common."""

from __future__ import annotations

from msgspec import Struct

from catena.core.errors import InputError
from catena.core.messages import Sampling

MAX_SEED = (1 << 63) - 1
MAX_LOGPROBS = 20
_BOUNDS = {
    "temperature": (0.0, 2.0),
    "top_k": (0, 1 << 20),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "seed": (-MAX_SEED - 1, MAX_SEED),
}
_ABOVE_ZERO = {"top_p": 1.0, "repeat_penalty": 2.0, "repetition_penalty": 2.0}


class SamplingWire(Struct, frozen=True, kw_only=True):
    """Parameters that protocols call by the same names, as they come."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


def check_bounds(wire: Struct, where: str = "") -> None:
    """Raise InputError naming the parameter of `wire` that is out of its bounds; `where` is put before the name."""
    for name, (low, high) in _BOUNDS.items():
        within(name, getattr(wire, name, None), low, high, where)
    for name, high in _ABOVE_ZERO.items():
        value = getattr(wire, name, None)
        if value is not None and not 0.0 < value <= high:
            raise InputError(f"{name} must be above 0 and at most {high:g}", param=f"{where}{name}")


def within(name: str, value: float | None, low: float, high: float, where: str = "") -> None:
    """Raise InputError unless `value` is None or from `low` to `high`."""
    if value is not None and not low <= value <= high:
        raise InputError(f"{name} must be from {low:g} to {high:g}", param=f"{where}{name}")


def at_least_one(name: str, value: int | None) -> None:
    """Raise InputError unless `value` is None or 1 or more."""
    if value is not None and value < 1:
        raise InputError(f"{name} must be at least 1", param=name)


def read_sampling(wire: SamplingWire, repeat_penalty: float | None, *, max_stops: int, where: str = "") -> Sampling:
    """What is common of how to sample; bounds are checked before. Raises InputError for stop texts that cannot be."""
    stops = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    if len(stops) > max_stops:
        raise InputError(f"stop takes at most {max_stops} texts", param=f"{where}stop")
    if not all(stops):
        raise InputError("a stop text must not be empty", param=f"{where}stop")
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        min_p=wire.min_p,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repeat_penalty=repeat_penalty,
        seed=wire.seed,
        stop=stops,
    )
