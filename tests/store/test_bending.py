"""Bent models of every layout: each is read or refused as malformed, soon, and in little memory."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import pytest
from tests.store import bending

MAX_S, MAX_BYTES = 2.0, 16 << 20


def test_two_thousand_bent_models_are_read_or_refused(tmp_path: Path) -> None:
    tally = bending.run(tmp_path, 2000, seed=7)
    assert sum(tally.outcomes.values()) == 2000
    assert tally.slowest_s < MAX_S
    kinds = set(bending.layouts())
    assert {kind.partition(":")[0] for kind in tally.outcomes} == kinds
    for kind in kinds:
        assert tally.outcomes[f"{kind}: malformed_file"] > 50, "the bending hardly ever reaches the reader"


def test_a_bent_model_takes_little_memory(tmp_path: Path) -> None:
    peak = 0

    def each() -> None:
        nonlocal peak
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        bending.run(tmp_path, 280, seed=5, each=each)
    finally:
        tracemalloc.stop()
    assert 0 < peak < MAX_BYTES


@pytest.mark.parametrize("kind", bending.layouts())
def test_what_is_not_bent_is_read(tmp_path: Path, kind: str) -> None:
    weights, files = bending.layouts()[kind]
    assert bending.check(tmp_path, weights, files) == "read"


@pytest.mark.long
def test_a_hundred_thousand_bent_models_are_read_or_refused(tmp_path: Path) -> None:
    tally = bending.run(tmp_path, 100_000, seed=int(os.environ.get("CATENA_TEST_SEED", "11")))
    print(f"{sum(tally.outcomes.values())} bent models, slowest {tally.slowest_s:.3f} s: {dict(tally.outcomes)}")
    assert tally.slowest_s < MAX_S


def test_bending_changes_nearly_everything_it_is_given() -> None:
    rng = random.Random(1)
    data = bytes(range(256)) * 4
    assert sum(bending.bend(rng, data) != data for _ in range(200)) > 190
