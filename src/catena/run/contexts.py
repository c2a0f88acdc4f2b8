"""How many tokens a session may hold: as settings want it, as far as the model was trained or is scaled to."""

from __future__ import annotations

import logging

from catena.core.errors import ConfigError, UnsupportedError
from catena.core.protocols import Context, Placement

SCALINGS = ("linear", "yarn")

log = logging.getLogger("catena.run")


def fitted(name: str, trained: int, placement: Placement) -> int:
    """Tokens of a session whose engine does not scale positions; `trained` 0: not known, then 0 is the model's own.

    More than trained by `run.contexts` is a ConfigError; by `run.context_tokens`, which is for all models, a warning.
    Raises UnsupportedError where `run.contexts` wants positions scaled.
    """
    if placement.context.has_rope:
        raise UnsupportedError(
            f"the engine of {name} does not scale positions", hint=f"take rope_… out of run.contexts.{name}"
        )
    return (
        bounded(name, trained, placement.context_tokens or trained, placement) if trained else placement.context_tokens
    )


def reach(name: str, trained: int, original: int, context: Context) -> int:
    """How many tokens the model can tell apart: `trained`, or, where positions are scaled, that many times `original`
    (what it was trained for before a scaling that it brings along; 0: `trained`).

    Raises ConfigError for a scaling without a factor, or a factor without a scaling.
    """
    is_scaled = context.rope_scaling in SCALINGS
    if is_scaled and context.rope_factor == 1.0:
        raise ConfigError(
            f"run.contexts.{name} scales positions by nothing", hint="set rope_factor, for example to 2.0"
        )
    if not is_scaled and context.rope_factor != 1.0:
        raise ConfigError(
            f"run.contexts.{name} has a rope_factor without a way to scale", hint=f"set rope_scaling to {SCALINGS[1]!r}"
        )
    if is_scaled:
        return int((original or trained) * context.rope_factor)
    return (original or trained) if context.rope_scaling == "none" else trained


def bounded(name: str, most: int, wanted: int, placement: Placement) -> int:
    """`wanted` tokens, or `most` where that is less: said as a warning if the setting for all models wants more, and a
    ConfigError if the one for this model does."""
    if wanted <= most:
        return wanted
    if placement.context.tokens:
        raise ConfigError(
            f"run.contexts.{name} wants {wanted} tokens, and the model can tell {most} apart",
            hint=f"set tokens to {most}, or, for a GGUF model that generates, rope_scaling and rope_factor",
        )
    log.warning(
        "%s has a context of %d tokens, not the %d of run.context_tokens: it can tell no more apart", name, most, wanted
    )
    return most
