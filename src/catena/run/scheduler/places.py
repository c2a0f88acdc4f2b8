"""Which device an engine loads models on: the one that settings name, the CPU where they name none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from catena.core.errors import ConfigError
from catena.core.settings import RunSettings

CPU = "cpu"


def check(settings: RunSettings, engines: Iterable[str]) -> None:
    """Raise ConfigError if `run.devices` names an engine that there is not, or says twice where one computes."""
    known = list(engines)
    for name in settings.devices:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"engines: {', '.join(known)}"
            raise ConfigError(f"run.devices names an engine {name!r} that is not here", hint=hint, param="run.devices")
        if getattr(getattr(settings, name, None), "device", ""):
            raise ConfigError(
                f"run.devices and run.{name}.device both say where {name} computes",
                hint="take one of them out",
                param="run.devices",
            )


def device(settings: RunSettings, engine: str) -> str:
    """The device for the models of an engine, in that engine's words; whether it is there is for the engine to say."""
    return settings.devices.get(engine, CPU)
