"""Routing: the measures against cases done by hand, a fit that transfers, a file that is refused, and the verb."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from catena.cli.verbs.route import command
from catena.core.errors import CatenaError, FormatError, InputError
from catena.reach.routing import Difficulty
from catena.reach.routing.features import NAMES, features_of
from catena.reach.routing.fitting import Outcome, fitted, solved
from catena.reach.routing.metrics import measured

HARD = "Prove that there are infinitely many primes p with p = 3 mod 4, then implement a sieve in Python for n < 10^{}."
EASY = "Write a short poem about autumn leaves, number {}."


def outcomes(count: int = 60) -> list[Outcome]:
    return [Outcome((HARD if n % 2 else EASY).format(n), 0.2 if n % 2 else 0.9, 0.9) for n in range(count)]


def test_apgr_and_cpt_are_those_done_by_hand() -> None:
    weak, strong = [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]
    perfect = measured([4, 1, 3, 2], weak, strong)
    assert perfect.apgr == pytest.approx((0.25 + 0.75 + 1 + 1) / 4)
    assert (perfect.cpt50, perfect.cpt80, perfect.cpt100) == (0.25, 0.5, 0.5)
    assert measured([0, 0, 0, 0], weak, strong).apgr == pytest.approx(0.5)
    assert measured([1, 4, 2, 3], weak, strong).apgr == pytest.approx(0.25)


def test_where_the_weak_model_wins_routing_beats_the_strong_one() -> None:
    found = measured([3, 2, 1], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    assert (found.best, found.at) == (1.0, pytest.approx(2 / 3))
    assert found.apgr > 1


def test_without_a_gap_there_is_no_measure() -> None:
    for weak, strong in (([1.0], [1.0]), ([], [])):
        with pytest.raises(InputError):
            measured([0.0] * len(weak), weak, strong)


def test_equations_are_solved() -> None:
    assert solved([[0.0, 2.0], [3.0, 1.0]], [4.0, 5.0]) == pytest.approx([1.0, 2.0])


def test_a_fit_tells_hard_prompts_it_never_saw() -> None:
    learned = fitted(outcomes())
    hard = "Calculate how many of the 350 marbles are left if 3/5 are sold and then 20% of the rest are lost each day."
    assert learned.score(hard) > learned.score("Pretend you are a friendly cat and greet me.")
    assert learned.provenance["rows"] == 60
    assert learned == fitted(outcomes())


def test_what_data_say_outweighs_what_is_expected() -> None:
    turned = [Outcome(row.prompt, 0.9 if row.weak < 0.5 else 0.2, 0.9) for row in outcomes(4000)]
    learned = fitted(turned)
    assert learned.score(EASY.format(1)) > learned.score(HARD.format(1))


def test_chinese_is_seen_too() -> None:
    poem, sums = "写一首关于秋天的诗", "小明有120个苹果，每天卖出一半，3天之后还剩多少？求总共卖出的比例"
    learned = Difficulty.expected()
    assert learned.score(sums) > learned.score(poem)


def test_odd_prompts_have_finite_scores() -> None:
    for text in ("", "\x00\ud800", "9" * 50_000, "a" * 300_000, "?" * 5000, "½ ²"):
        values = features_of(text)
        assert len(values) == len(NAMES)
        assert all(math.isfinite(value) for value in values)


def test_too_little_or_nothing_to_learn_is_said() -> None:
    for rows in (outcomes(10), [Outcome("a", 0.5, 0.5)] * 30):
        with pytest.raises(InputError):
            fitted(rows)


def test_a_file_comes_back_the_same_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "difficulty.json"
    learned = fitted(outcomes())
    learned.save(path)
    assert Difficulty.load(path) == learned
    assert "primes" not in path.read_text()
    good = json.loads(path.read_text())
    changes = ({"version": 2}, {"format": "x"}, {"weights": {"no such": 1.0}}, {"bias": 1e300}, {"weights": [1]})
    for bad in ("", "[]", "{}", "nul", *(json.dumps({**good, **change}) for change in changes)):
        path.write_text(bad)
        with pytest.raises(FormatError):
            Difficulty.load(path)


def test_the_verb_fits_scores_and_evaluates(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{n}", "prompt": one.prompt, "weak": one.weak, "strong": one.strong}
        for n, one in enumerate(outcomes())
    ]
    train, file, scores = tmp_path / "train.jsonl", tmp_path / "file.json", tmp_path / "scores.jsonl"
    train.write_text("\n".join(json.dumps(row) for row in rows))
    for arguments in (["fit", str(train), "-o", str(file)], ["score", str(file), str(train), "-o", str(scores)]):
        run = CliRunner().invoke(command, arguments)
        assert run.exit_code == 0, run.output
    found = [json.loads(line) for line in scores.read_text().splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    run = CliRunner().invoke(command, ["eval", str(train), "--scores", str(scores), "--train", str(train), "--json"])
    table = json.loads(run.output)
    assert set(table) == {"scores", "learned", "TF-IDF", "expected, no data", "length", "random"}
    assert table["scores"]["apgr"] == pytest.approx(table["learned"]["apgr"], abs=1e-3)
    assert table["scores"]["apgr"] > 0.7 > table["random"]["apgr"] > 0.3
    plain = CliRunner().invoke(command, ["eval", str(train)])
    assert "CPT(80)" in plain.output
    assert "learned, 5-fold" in plain.output


def test_bad_outcomes_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    for bad in ('{"prompt": "a", "weak": 2, "strong": 1}', '{"prompt": 1, "weak": 0, "strong": 1}', '{"weak": 0}', ""):
        path.write_text('{"prompt": "a", "weak": true, "strong": false}\n' + bad if bad else "")
        run = CliRunner().invoke(command, ["fit", str(path), "-o", str(tmp_path / "out")])
        assert isinstance(run.exception, CatenaError)
        assert not bad or "outcome 2" in str(run.exception)
