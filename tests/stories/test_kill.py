"""SIGKILL at random moments, the short form of `bench/kill.py`: what a client was promised is there afterwards."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import catena

BENCH = Path(__file__).parents[2] / "bench"
SEED = 20261124


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bench's own rounds."""
    monkeypatch.syspath_prepend(str(BENCH))
    import kill

    return kill


def test_no_answer_that_reached_a_client_lacks_its_record_after_a_kill_under_load(kill: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    chance = random.Random(SEED)
    rounds = [kill.kill_under_load(home, chance) for _ in range(6)]
    assert [problem for one in rounds for problem in one["problems"]] == []
    assert sum(one["whole"] for one in rounds) > 50, "the kills came too early to prove anything"
    verdict = json.loads(catena(home, "audit", "verify", "--full", "--json").stdout)
    assert verdict["ok"]


def test_the_next_start_closes_as_lost_what_the_killed_process_left_open(kill: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    kill.kill_under_load(home, random.Random(SEED))
    with kill.lab.gateway("--echo", home=home):
        verdict = json.loads(catena(home, "audit", "verify", "--json").stdout)
    assert (verdict["ok"], verdict["open"]) == (True, 0)


def test_a_store_verifies_and_a_pull_finishes_after_kills_during_a_pull(kill: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    source = tmp_path / "weights.gguf"
    kill.write_weights(source)
    chance = random.Random(SEED)
    rounds = [kill.kill_pull(home, source, chance, 0.6) for _ in range(4)]
    assert [problem for one in rounds for problem in one["problems"]] == []
    left = list((home / "blobs" / "sha256").rglob("*"))
    assert [path for path in left if path.is_file()] == []
