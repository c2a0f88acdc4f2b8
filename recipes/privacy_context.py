"""Trains the judge of context privacy on prompts that we generate: `python recipes/privacy_context.py [--report FILE]`.

Every prompt is made by the grammars beside this file; nothing is collected. Logistic regression with L2 (scikit-learn).
Calibration comes from families and templates that were left out of the fit; the thresholds are the mean of those from
families left out, which are stranger than a new topic, and from templates left out, which are more familiar.
`--report LABELS.json` measures on exemplars of vllm-semantic-router (Apache-2.0), which are not part of what ships:
alone, and with the exemplars of all labels but one given to the user's own `fit`. Seeded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from catena.reach.privacy.context.features import features_of
from catena.reach.privacy.context.fitting import Example, fitted
from catena.reach.privacy.context.judge import margin_of
from catena.reach.privacy.context.model import RECALLS, VERSION, Model, Threshold, write_model

HERE = Path(__file__).parent
OUT = HERE.parent / "src/catena/reach/privacy/data/context.json.gz"
GRAMMAR = {kind: tomllib.loads((HERE / f"privacy_context_{kind}.toml").read_text()) for kind in ("private", "open")}
SLOTS: dict[str, list[str]] = {name: slot for each in GRAMMAR.values() for name, slot in each["slots"].items()}
PER_TEMPLATE = 45
REGULARISATION = 0.5
_SLOT = re.compile(r"\{([^{}]+)\}")
Row = tuple[str, str, int, int]  # family, text, is_private, template


def filled(template: str, rng: random.Random) -> str:
    while "{" in template and (made := _SLOT.sub(lambda slot: rng.choice(SLOTS[slot[1]]), template)) != template:
        template = made
    return template


def varied(text: str, rng: random.Random) -> str:
    """Case, punctuation and politeness as people write; the meaning stays."""
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.3 and text[-1].isalnum():
        text += rng.choice(".!") if text.isascii() else "。"
    if rng.random() < 0.08:
        start = ("Hi, ", "Please: ", "Hello. ", "Question: ") if text.isascii() else ("你好，", "请问，", "麻烦你，")
        text = rng.choice(start) + text
    return text.strip()


def generated(seed: int = 5) -> list[Row]:
    """Rows without duplicates, as many of each class."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for label, kind in enumerate(("open", "private")):
        families: dict[str, list[str]] = GRAMMAR[kind]["families"]
        num_templates = sum(len(templates) for templates in families.values())
        per_template = round(PER_TEMPLATE * 190 / num_templates)
        for family, templates in families.items():
            seen: set[str] = set()
            for number, template in enumerate(templates):
                for _ in range(per_template):
                    text = varied(filled(template, rng), rng)
                    if rng.random() < 0.12:
                        text += " " + varied(filled(rng.choice(templates), rng), rng)
                    if text not in seen:
                        seen.add(text)
                        rows.append((family, text, label, number))
    return rows


class Fit:
    """One logistic regression over `features_of`."""

    def __init__(self, features: list[dict[str, float]], labels: np.ndarray, regularisation: float) -> None:
        counts: dict[str, int] = {}
        for each in features:
            for name in each:
                counts[name] = counts.get(name, 0) + 1
        keep = {name for name, count in counts.items() if count >= 6}
        self.vector = DictVectorizer(dtype=np.float32)
        matrix = self.vector.fit_transform([{k: v for k, v in each.items() if k in keep} for each in features])
        self.model = LogisticRegression(C=regularisation, max_iter=300)
        self.model.fit(matrix, labels)

    def margins(self, features: list[dict[str, float]]) -> np.ndarray:
        return self.model.decision_function(self.vector.transform(features))


def left_out(rows: list[Row], features: list[dict[str, float]], groups: np.ndarray) -> np.ndarray:
    """The margin of each row from a fit without its group."""
    labels = np.array([row[2] for row in rows])
    margins = np.zeros(len(rows))
    for group in dict.fromkeys(groups):
        out = groups == group
        fit = Fit([features[i] for i in np.flatnonzero(~out)], labels[~out], REGULARISATION)
        margins[out] = fit.margins([features[i] for i in np.flatnonzero(out)])
    return margins


def platt(margins: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    model = LogisticRegression(C=1e6).fit(margins[:, None], labels)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def thresholds(margins: np.ndarray, labels: np.ndarray) -> tuple[Threshold, ...]:
    """For each recall the highest margin that keeps it: `ceil(recall * n)` of the n private rows are at or above it."""
    kept = np.sort(margins[labels == 1])[::-1]
    places = [min(len(kept), int(np.ceil(recall * len(kept)))) - 1 for recall in RECALLS]
    return tuple(Threshold(recall, round(float(kept[place]), 4)) for recall, place in zip(RECALLS, places, strict=True))


def between(*sets: tuple[Threshold, ...]) -> tuple[Threshold, ...]:
    """The mean of thresholds: a family left out is stranger than a new topic, a template left out more familiar."""
    return tuple(
        Threshold(same[0].recall, round(sum(each.margin for each in same) / len(same), 4))
        for same in zip(*sets, strict=True)
    )


def passing(margins: np.ndarray, labels: np.ndarray, recall: float) -> float:
    """The share of open rows below the threshold of `recall`."""
    kept = np.sort(margins[labels == 1])[::-1]
    place = min(len(kept), int(np.ceil(recall * len(kept)))) - 1
    return float((margins[labels == 0] < kept[place]).mean())


def trained(rows: list[Row], features: list[dict[str, float]]) -> tuple[Model, np.ndarray]:
    labels = np.array([row[2] for row in rows])
    outside = left_out(rows, features, np.array([row[0] for row in rows]))
    nearer = left_out(rows, features, np.array([row[3] % 6 for row in rows]))
    fit = Fit(features, labels, REGULARISATION)
    names, weights = fit.vector.get_feature_names_out(), fit.model.coef_[0]
    slope, offset = platt(np.concatenate((outside, nearer)), np.concatenate((labels, labels)))
    digest = hashlib.sha256("\n".join(text for _, text, *_ in rows).encode()).hexdigest()[:16]
    model = Model(
        version=VERSION,
        bias=round(float(fit.model.intercept_[0]), 4),
        weights={str(n): round(float(w), 3) for n, w in zip(names, weights, strict=True) if abs(w) >= 0.004},
        slope=round(slope, 4),
        offset=round(offset, 4),
        thresholds=between(thresholds(outside, labels), thresholds(nearer, labels)),
        provenance={
            "recipe": "recipes/privacy_context.py",
            "data": f"{len(rows)} prompts generated by its grammar (sha256 {digest})",
            "licence": "that of Catena",
        },
    )
    return model, outside


def exemplars(path: Path) -> Iterator[Row]:
    labels = json.loads(path.read_text())["labels"]
    free = {"architecture_analysis", "root_cause_analysis", "multi_step_tradeoffs", "generic_coding", "simple_task",
            "general_knowledge"}  # fmt: skip
    for name, entry in labels.items():
        yield from ((name, text, int(name not in free), 0) for text in entry["exemplars"])


def report(model: Model, path: Path) -> None:
    rows = list(exemplars(path))
    labels = np.array([row[2] for row in rows])
    alone = np.array([margin_of(model, features_of(text)) for _, text, *_ in rows])
    outside, decided = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    for name in dict.fromkeys(name for name, *_ in rows):
        theirs = fitted(
            model, [Example(text, "private" if y else "open") for other, text, y, _ in rows if other != name]
        )
        for i, (label, text, *_) in enumerate(rows):
            if label == name:
                margin = margin_of(theirs, features_of(text))
                outside[i], decided[i] = margin, margin >= theirs.threshold(0.995)
    for title, margins, local in (
        ("shipped, no exemplar seen", alone, alone >= model.threshold(0.995)),
        ("fit with all labels but one", outside, decided),
    ):
        shares = ", ".join(f"{r}: {passing(margins, labels, r):.3f}" for r in (0.95, 0.99, 0.995, 1.0))
        caught, passed = local[labels == 1].mean(), (~local)[labels == 0].mean()
        print(f"{title}: open let out at recall {shares}; as decided: recall {caught:.3f}, open let out {passed:.3f}")
    order = np.argsort(outside)
    print("lowest private:", *[f"{outside[i]:.2f} {rows[i][1][:90]!r}" for i in order if labels[i]][:14], sep="\n  ")
    print(
        "highest open:",
        *[f"{outside[i]:.2f} {rows[i][1][:90]!r}" for i in order[::-1] if not labels[i]][:20],
        sep="\n  ",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="labels of vllm-semantic-router, to measure on")
    arguments = parser.parse_args()
    rows = generated()
    features = [features_of(text) for _, text, *_ in rows]
    model, outside = trained(rows, features)
    write_model(OUT, model)
    labels = np.array([row[2] for row in rows])
    print(f"{len(rows)} prompts, {labels.mean():.3f} private, {len(model.weights)} weights, {OUT.stat().st_size} bytes")
    for recall in (0.99, 0.995, 1.0):
        print(f"leave one family out, recall {recall}: {passing(outside, labels, recall):.3f} of open prompts let out")
    if arguments.report:
        report(model, arguments.report)


if __name__ == "__main__":
    main()
