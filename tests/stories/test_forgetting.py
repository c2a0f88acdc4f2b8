"""Canaries go in by every door and are forgotten, killed half-way or not: the short form of `bench/forget.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bench's own rounds."""
    monkeypatch.syspath_prepend(str(BENCH))
    import forget

    return forget


def test_canaries_that_came_in_by_every_door_are_in_no_byte_afterwards(forget: Any, tmp_path: Path) -> None:
    found = forget.whole(tmp_path, 300)
    assert sum(found["put_in"].values()) == 300
    assert found["traces_in_files_after_the_doors"] == 0
    assert found["traces_before"] > 30, "nothing was there to be found"
    assert found["traces_after"] == 0, found["found_after"]
    assert found["harmless_lost"] == []
    assert found["report"]["left"] == found["report"]["unreadable"] == 0
    assert found["copy_from_before"]["closed"] > 80
    assert found["copy_from_before"]["opened with a canary"] == 0
    assert found["copy_from_before"]["opened"] >= 100


def test_a_forgetting_that_is_killed_is_finished_by_the_next_start_or_command(forget: Any, tmp_path: Path) -> None:
    found = forget.killed(tmp_path, 150, 2)
    assert found["killed"] > 0, "the kills came too late to prove anything"
    assert found["rounds_with_a_problem"] == 0, found["problems"]
