"""`catena route eval`: APGR and CPT of a router beside length, chance and TF-IDF, by replay of outcomes."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from catena.cli.lines import read_lines
from catena.cli.outcomes import read_outcomes
from catena.core.errors import InputError
from catena.reach.routing.baselines import chance, length, tf_idf
from catena.reach.routing.difficulty import Difficulty
from catena.reach.routing.fitting import MIN_ROWS, Outcome, fitted
from catena.reach.routing.metrics import Measured, measured

FOLDS, DRAWS = 5, 20


@click.command(name="eval")
@click.argument("test")
@click.option("--train", help="Learn from these outcomes; without, from four fifths of TEST for each fifth.")
@click.option("--model", help="A file of `catena route fit` to evaluate instead of learning.")
@click.option("--scores", help="Scores of `catena route score` in the order of TEST, from any router.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(test: str, train: str | None, model: str | None, scores: str | None, as_json: bool) -> None:
    """Replay TEST, lines of {"prompt", "weak", "strong"}, and print one line for each router.

    APGR is the mean share of the quality gap recovered over all shares of strong calls; CPT(x) the share of strong
    calls that recovers x %. Of numbers from TEST alone little follows for other prompts: name another file as --train.
    """
    rows, _ = read_outcomes(test)
    table = {name: _of(found, rows) for name, found in _routers(rows, train, model, scores).items()}
    draws = [_of(chance([row.prompt for row in rows], draw), rows) for draw in range(DRAWS)]
    table["random"] = Measured(*(sum(values) / DRAWS for values in zip(*map(_values, draws), strict=True)))
    if as_json:
        click.echo(msgspec.json.encode({name: msgspec.to_builtins(one) for name, one in table.items()}))
        return
    click.echo(f"{'router':22} {'APGR':>6} {'CPT(50)':>8} {'CPT(80)':>8} {'CPT(100)':>8} {'best':>6} {'at':>6}")
    for name, one in table.items():
        shares = f"{one.cpt50:8.1%} {one.cpt80:8.1%} {one.cpt100:8.1%}"
        click.echo(f"{name:22} {one.apgr:6.3f} {shares} {one.best:6.3f} {one.at:6.1%}")


def _routers(rows: list[Outcome], train: str | None, model: str | None, scores: str | None) -> dict[str, list[float]]:
    prompts = [row.prompt for row in rows]
    found: dict[str, list[float]] = {}
    if scores:
        found["scores"] = _read_scores(scores, len(rows))
    if model:
        difficulty = Difficulty.load(model)
        found["model"] = [difficulty.score(prompt) for prompt in prompts]
    if train:
        others, _ = read_outcomes(train)
        difficulty = fitted(others)
        found["learned"] = [difficulty.score(prompt) for prompt in prompts]
        found["TF-IDF"] = tf_idf([one.prompt for one in others], [one.strong - one.weak for one in others], prompts)
    elif len(rows) >= 2 * MIN_ROWS:
        found["learned, 5-fold"], found["TF-IDF, 5-fold"] = _folded(rows)
    expected = Difficulty.expected()
    found["expected, no data"] = [expected.score(prompt) for prompt in prompts]
    found["length"] = length(prompts)
    return found


def _folded(rows: list[Outcome]) -> tuple[list[float], list[float]]:
    """Scores of each fifth from a fit to the others; fifths are runs of neighbours, which may belong together."""
    ours, theirs = list[float](), list[float]()
    for fold in range(FOLDS):
        start, end = fold * len(rows) // FOLDS, (fold + 1) * len(rows) // FOLDS
        inside, prompts = rows[:start] + rows[end:], [row.prompt for row in rows[start:end]]
        difficulty = fitted(inside)
        ours += [difficulty.score(prompt) for prompt in prompts]
        theirs += tf_idf([one.prompt for one in inside], [one.strong - one.weak for one in inside], prompts)
    return ours, theirs


def _of(scores: list[float], rows: list[Outcome]) -> Measured:
    return measured(scores, [row.weak for row in rows], [row.strong for row in rows])


def _values(one: Measured) -> tuple[float, ...]:
    return msgspec.structs.astuple(one)


def _read_scores(source: str, count: int) -> list[float]:
    found: list[Any] = [row.get("score") for row in read_lines(source)]
    if len(found) != count or not all(isinstance(one, int | float) for one in found):
        raise InputError(f"{source} does not hold one score for each of {count} outcomes, in their order")
    return found
