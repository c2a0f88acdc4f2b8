"""Parameters that chat and completions share: their wire form, their bounds, and what they become inside."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from catena.core.errors import InputError
from catena.core.messages import OutputFormat, Sampling
from catena.reach.gateway.sampling import SamplingWire, at_least_one, check_bounds, read_sampling, within

MAX_STOPS = 4
MAX_CHOICES = 8
MAX_BIASES = 1024
MAX_METADATA, MAX_METADATA_NAME, MAX_METADATA_VALUE = 16, 64, 512
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Common(SamplingWire, frozen=True, kw_only=True):
    """What both generating routes take, as it comes."""

    model: str
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool | None = None
    adapters: dict[str, float] | None = None
    grammar: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None


def check_common(wire: Common, warnings: list[str]) -> None:
    """Bounds that hold for both routes. Raises InputError naming the parameter."""
    if not wire.model:
        raise InputError("model must name a model", param="model", hint="GET /v1/models lists them")
    check_bounds(wire)
    within("n", wire.n, 1, MAX_CHOICES)
    if wire.stream_options is not None:
        if not wire.stream:
            raise InputError("stream_options needs stream", param="stream_options", hint="set stream to true")
        if wire.stream_options.include_obfuscation:
            warnings.append("stream_options.include_obfuscation ignored: chunks are not padded")


def sampling(wire: Common, *, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """How to sample. Raises InputError for a stop, bias or penalty out of bounds."""
    at_least_one("max_tokens", max_tokens)
    penalty = wire.repeat_penalty
    if wire.repetition_penalty is not None:
        if penalty is not None and penalty != wire.repetition_penalty:
            raise InputError("repeat_penalty and repetition_penalty differ", param="repetition_penalty")
        penalty = wire.repetition_penalty
    return replace(
        read_sampling(wire, penalty, max_stops=MAX_STOPS),
        max_tokens=max_tokens,
        logit_bias=_biases(wire.logit_bias or {}),
        logprobs=logprobs,
        num_choices=wire.n or 1,
        ignore_eos=bool(wire.ignore_eos),
    )


def adapters(wire: Common) -> dict[str, float]:
    """Adapters by name. Raises InputError for a scale that is not from 0 to 2."""
    chosen = wire.adapters or {}
    for scale in chosen.values():
        within("adapters", scale, 0.0, 2.0)
    return dict(chosen)


def think(effort: Effort | None, name: str, warnings: list[str]) -> bool | None:
    """Whether to reason before the answer, from a degree of effort that the parameter `name` gives."""
    if effort is None:
        return None
    if effort != "none":
        warnings.append(f"{name} honoured only as on or off: the engine knows no degrees")
    return effort != "none"


def check_metadata(pairs: dict[str, str] | None) -> None:
    """Bounds of what is kept as it is. Raises InputError."""
    if len(pairs or ()) > MAX_METADATA:
        raise InputError(f"metadata takes at most {MAX_METADATA} texts", param="metadata")
    if any(len(name) > MAX_METADATA_NAME or len(text) > MAX_METADATA_VALUE for name, text in (pairs or {}).items()):
        raise InputError(
            f"in metadata, names have at most {MAX_METADATA_NAME} characters and texts {MAX_METADATA_VALUE}",
            param="metadata",
        )


def grammar_output(wire: Common, other: OutputFormat, rival: str = "response_format") -> OutputFormat:
    """`other`, which the parameter `rival` gave, or the grammar if one was given. Raises InputError if both were."""
    if not wire.grammar:
        return other
    if other.kind != "text":
        raise InputError(f"grammar and {rival} exclude one another", param="grammar")
    return OutputFormat("grammar", grammar=wire.grammar)


def _biases(biases: dict[str, float]) -> dict[int, float]:
    if len(biases) > MAX_BIASES:
        raise InputError(f"logit_bias takes at most {MAX_BIASES} tokens", param="logit_bias")
    found: dict[int, float] = {}
    for token, bias in biases.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise InputError("the names in logit_bias are token ids: whole numbers", param="logit_bias")
        within("logit_bias", bias, -100.0, 100.0)
        found[int(token)] = bias
    return found
