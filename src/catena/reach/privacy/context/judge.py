"""Judges whether a text speaks of what must stay here, with the reasons that weighed most."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from msgspec import Struct

from catena.reach.privacy.context.concepts import MEANING
from catena.reach.privacy.context.features import features_of, windows
from catena.reach.privacy.context.model import TUNED, Model, read_model, shipped
from catena.reach.privacy.folding import views

RECALL = 0.995
# Beyond this nothing is judged: the text counts as private.
MAX_CHARACTERS = 4 << 20
_REASONS = 3


class Judged(Struct, frozen=True):
    """`score`: the probability, 0..1, that the text is private. `reasons` never quote the text."""

    score: float
    is_private: bool
    reasons: tuple[str, ...]


class Judgement:
    """A judge made of one model; safe to share between threads."""

    def __init__(self, model: Model | None = None) -> None:
        self.model = model or shipped()

    @classmethod
    def of(cls, home: Path) -> Judgement:
        """The one the user tuned in the folder of state `home`, else the shipped one.

        Raises FormatError for a tuned file that cannot be used: falling back could let out what was to stay.
        """
        path = home / TUNED
        return cls(read_model(path)) if path.exists() else cls()

    def judge(self, text: str, recall: float = RECALL) -> Judged:
        """Judge all views of `text`; the most private stretch decides."""
        if len(text) > MAX_CHARACTERS:
            return Judged(1.0, True, ("too long to be judged",))
        if not text.strip():
            return Judged(0.0, False, ("nothing in it",))
        model, best, seen = self.model, -math.inf, {}
        for view in views(text):
            for window in windows(view.text):
                found = features_of(window)
                margin = margin_of(model, found)
                if margin > best:
                    best, seen = margin, found
        is_private = best >= model.threshold(recall)
        return Judged(probability(model, best), is_private, reasons_of(model, seen, is_private))


def margin_of(model: Model, features: dict[str, float]) -> float:
    """Log-odds before calibration."""
    weights, total = model.weights, model.bias
    for name, value in features.items():
        weight = weights.get(name)
        if weight is not None:
            total += weight * value
    return total


def probability(model: Model, margin: float) -> float:
    """Platt's calibration (Platt 1999)."""
    power = max(-60.0, min(60.0, model.slope * margin + model.offset))
    return 1 / (1 + math.exp(-power))


def reasons_of(model: Model, features: dict[str, float], is_private: bool) -> tuple[str, ...]:
    """What concepts weighed most towards the decision, each with half of the weight of its pairs."""
    share: dict[str, float] = {}
    for name, value in features.items():
        weight = model.weights.get(name, 0.0) * value
        if name.startswith("c:"):
            share[name[2:]] = share.get(name[2:], 0.0) + weight
        elif name.startswith("p:"):
            for one in name[2:].split("+"):
                share[one] = share.get(one, 0.0) + weight / 2
    sign = 1 if is_private else -1
    order = sorted(share, key=lambda one: -sign * share[one])
    found = tuple(MEANING[one] for one in order[:_REASONS] if sign * share[one] > 0 and one in MEANING)
    if found:
        return found
    return ("its wording is like that of private texts",) if is_private else ("nothing points at private matters",)


@cache
def _standing() -> Judgement:
    return Judgement()


def judge(text: str) -> Judged:
    """Judge with what ships, at a recall of 0.995. `Judgement.of(home)` heeds the user's own examples."""
    return _standing().judge(text)
