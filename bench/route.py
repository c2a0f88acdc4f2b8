"""How well difficulty that was learned on one benchmark routes another: APGR and CPT beside length, chance and TF-IDF.

DATA is a folder with the outcomes of Mixtral-8x7B and GPT-4 that RouteLLM published (Apache-2.0), as
gsm8k_mixtral_gpt4.jsonl.gz and mtbench_scores.jsonl.gz; a question of two turns is two prompts, scores are tenths.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import lab
import msgspec

from catena.reach.routing.baselines import chance, length, tf_idf
from catena.reach.routing.difficulty import Difficulty
from catena.reach.routing.fitting import Outcome, fitted
from catena.reach.routing.metrics import Measured, measured

DRAWS, FOLDS = 20, 5


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as stream:
        return [json.loads(line) for line in stream]


def benchmarks(folder: Path) -> dict[str, tuple[list[Outcome], list[str]]]:
    """Outcomes and, for MT-bench, their categories."""
    sums = [
        Outcome(row["prompt"], float(row["weak"]), float(row["strong"]))
        for row in lines(folder / "gsm8k_mixtral_gpt4.jsonl.gz")
    ]
    by_turn: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    for row in lines(folder / "mtbench_scores.jsonl.gz"):
        name = "strong" if row["model"].startswith("gpt") else "weak"
        by_turn.setdefault((row["question_id"], row["turn"]), {})[name] = row
    talks, categories = [], []
    for (_, turn), pair in sorted(by_turn.items()):
        prompt = "\n".join(pair["weak"]["question"][:turn])
        talks.append(Outcome(prompt, pair["weak"]["score"] / 10, pair["strong"]["score"] / 10))
        categories.append(pair["weak"]["category"])
    return {"gsm8k": (sums, ["mathematics"] * len(sums)), "mtbench": (talks, categories)}


def of(scores: list[float], rows: list[Outcome]) -> dict[str, float]:
    found = measured(scores, [row.weak for row in rows], [row.strong for row in rows])
    return {name: round(value, 4) for name, value in msgspec.to_builtins(found).items()}


def scored(difficulty: Difficulty, rows: list[Outcome]) -> list[float]:
    return [difficulty.score(row.prompt) for row in rows]


def words(train: list[Outcome], test: list[Outcome]) -> list[float]:
    gains = [row.strong - row.weak for row in train]
    return tf_idf([row.prompt for row in train], gains, [row.prompt for row in test])


def folded(rows: list[Outcome], turns: int) -> tuple[list[float], list[float]]:
    """Ours and TF-IDF, in five folds; the `turns` of one question stay together."""
    groups = list(range(len(rows) // turns))
    random.Random(5).shuffle(groups)
    ours, theirs = [0.0] * len(rows), [0.0] * len(rows)
    for fold in range(FOLDS):
        out = [group * turns + turn for group in groups[fold::FOLDS] for turn in range(turns)]
        inside = [row for place, row in enumerate(rows) if place not in set(out)]
        outside = [rows[place] for place in out]
        for target, found in ((ours, scored(fitted(inside), outside)), (theirs, words(inside, outside))):
            for place, score in zip(out, found, strict=True):
                target[place] = score
    return ours, theirs


def categories(scores: list[float], names: list[str]) -> dict[str, float]:
    """The mean place of each category, 0..1 from the easiest to the hardest, as the scores have it."""
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    places: dict[str, list[float]] = {}
    for number, place in enumerate(order):
        places.setdefault(names[place], []).append(number / (len(order) - 1))
    return {name: round(sum(values) / len(values), 3) for name, values in sorted(places.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    sets = benchmarks(parser.parse_args().data)
    result: dict[str, Any] = {"draws": DRAWS, "folds": FOLDS}
    for name, other, turns in (("gsm8k", "mtbench", 1), ("mtbench", "gsm8k", 2)):
        rows, labels = sets[name]
        train = sets[other][0]
        learned = scored(fitted(train), rows)
        inside, inside_words = folded(rows, turns)
        draws = [of(chance([row.prompt for row in rows], draw), rows) for draw in range(DRAWS)]
        result[f"test {name}"] = {
            f"learned on {other}": of(learned, rows),
            f"TF-IDF on {other}": of(words(train, rows), rows),
            "learned, in-domain": of(inside, rows),
            "TF-IDF, in-domain": of(inside_words, rows),
            "expected, no data": of(scored(Difficulty.expected(), rows), rows),
            "length": of(length([row.prompt for row in rows]), rows),
            "random": {key: round(sum(draw[key] for draw in draws) / DRAWS, 4) for key in Measured.__struct_fields__},
            "oracle": of([row.strong - row.weak for row in rows], rows),
            "place of categories": categories(learned, labels),
        }
    start = time.process_time()
    many = (sets["gsm8k"][0] * 8)[:10_000]
    learned_many = fitted(many)
    result["fit_cpu_s_10000"] = round(time.process_time() - start, 2)
    start = time.process_time()
    scored(learned_many, many)
    result["prompts_per_cpu_s"] = round(len(many) / (time.process_time() - start))
    lab.save("route", result)


if __name__ == "__main__":
    main()
