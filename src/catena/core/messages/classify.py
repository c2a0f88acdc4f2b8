"""Texts to labels: what is asked of a model that classifies and what comes back."""

from __future__ import annotations

from msgspec import Struct

from catena.core.messages.events import Timings, Usage


class ClassifyRequest(Struct, frozen=True, tag="classify"):
    """Texts to label with `model`, each whole or, by a model of tokens, stretch by stretch."""

    model: str
    inputs: tuple[str, ...]


class Span(Struct, frozen=True):
    """A stretch of a text with a label: characters `start` to before `end`, and the label's probability."""

    label: str
    start: int
    end: int
    probability: float


class Classified(Struct, frozen=True):
    """For each text the probability of each of `labels` (a model of whole texts), or its spans (a model of tokens)."""

    labels: tuple[str, ...]
    usage: Usage
    probabilities: tuple[tuple[float, ...], ...] = ()
    spans: tuple[tuple[Span, ...], ...] = ()
    timings: Timings = Timings()
