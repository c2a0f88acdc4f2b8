"""Fits the judge to the user's own examples: a step away from what ships, with thresholds from examples left out."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from catena.core.errors import InputError
from catena.reach.privacy.context.features import features_of, windows
from catena.reach.privacy.context.judge import margin_of
from catena.reach.privacy.context.model import RECALLS, Model, Threshold

MAX_EXAMPLES = 20_000
FOLDS = 12
_PASSES = 12
_RATE = 0.25
_PULL = 0.01  # back to what ships, per example
Features = dict[str, float]


class Example(Struct, frozen=True):
    text: str
    label: Literal["private", "open"]


def fitted(model: Model, examples: Sequence[Example]) -> Model:
    """`model` moved towards `examples`: logistic regression by AdaGrad, with L2 to the weights that ship.

    Thresholds come from FOLDS fits without a run of neighbouring examples each (in files that people write,
    neighbours are of one topic), so that they hold for topics of which no example was given. Raises InputError.
    """
    if not examples:
        raise InputError("no examples", hint='write lines of {"text": …, "label": "private" or "open"}')
    if len(examples) > MAX_EXAMPLES:
        raise InputError(f"{len(examples):,} examples are too many (limit {MAX_EXAMPLES:,})")
    rows = [(_strongest(model, each.text), 1.0 if each.label == "private" else 0.0) for each in examples]
    weights, bias = _moved(model, rows)
    margins = _left_out(model, rows)
    return msgspec.structs.replace(
        model,
        weights={name: round(weight, 4) for name, weight in weights.items() if weight},
        bias=round(bias, 4),
        thresholds=_thresholds(model, margins, [label for _, label in rows]),
        examples=model.examples + len(rows),
    )


def _strongest(model: Model, text: str) -> Features:
    found = [features_of(window) for window in windows(text)[:64]]
    return max(found, key=lambda each: margin_of(model, each))


def _moved(model: Model, rows: Sequence[tuple[Features, float]]) -> tuple[dict[str, float], float]:
    weights, sums = dict(model.weights), dict[str, float]()
    bias, bias_sum = model.bias, 1.0
    shipped, order = model.weights, list(range(len(rows)))
    num_private = sum(label for _, label in rows) or 1.0
    balance = {1.0: len(rows) / (2 * num_private), 0.0: len(rows) / (2 * max(1.0, len(rows) - num_private))}
    for turn in range(_PASSES if len(rows) <= 4000 else 4):
        order.sort(key=lambda place: zlib.crc32(b"%d %d" % (turn, place)))
        for place in order:
            features, label = rows[place]
            margin = bias
            for name, value in features.items():
                margin += weights.get(name, 0.0) * value
            error = (label - 1 / (1 + math.exp(-max(-30.0, min(30.0, margin))))) * min(3.0, balance[label])
            bias_sum += error * error
            bias += _RATE * error / math.sqrt(bias_sum)
            for name, value in features.items():
                weight = weights.get(name, 0.0)
                step = error * value - _PULL * (weight - shipped.get(name, 0.0))
                total = sums[name] = sums.get(name, 0.5) + step * step
                weights[name] = weight + _RATE * step / math.sqrt(total)
    return weights, bias


def _left_out(model: Model, rows: Sequence[tuple[Features, float]]) -> list[float]:
    """The margin of each example from a fit without its neighbours."""
    fold_of = [0] * len(rows)
    for label in (0.0, 1.0):
        places = [place for place, row in enumerate(rows) if row[1] == label]
        for number, place in enumerate(places):
            fold_of[place] = number * FOLDS // max(1, len(places))
    margins = [0.0] * len(rows)
    for fold in range(FOLDS):
        inside = [row for place, row in enumerate(rows) if fold_of[place] != fold]
        if len(inside) == len(rows):
            continue
        weights, bias = _moved(model, inside) if inside else (model.weights, model.bias)
        for place, (features, _) in enumerate(rows):
            if fold_of[place] == fold:
                margins[place] = bias + sum(weights.get(name, 0.0) * value for name, value in features.items())
    return margins


def _thresholds(model: Model, margins: Sequence[float], labels: Sequence[float]) -> tuple[Threshold, ...]:
    """The margin that keeps `recall` of the examples left out; with few examples, what ships counts as well."""
    kept = sorted((margin for margin, label in zip(margins, labels, strict=True) if label), reverse=True)
    found: list[Threshold] = []
    for recall in RECALLS:
        shipped = model.threshold(recall)
        if not kept:
            found.append(Threshold(recall, shipped))
            continue
        own = kept[min(len(kept), math.ceil(recall * len(kept))) - 1]
        # A quantile needs about 1 / (1 - recall) examples; with as many, theirs and what ships count alike.
        trust = len(kept) / (len(kept) + 1 / max(0.001, 1 - recall))
        found.append(Threshold(recall, round(min(own, trust * own + (1 - trust) * shipped), 4)))
    return tuple(found)
