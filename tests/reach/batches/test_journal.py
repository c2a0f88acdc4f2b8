"""A finished line is on the disk before it counts; what a kill tears is cut off, and nothing else."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catena.core.errors import ResourceError
from catena.reach.batches.batch import Counts, Spent
from catena.reach.batches.journal import ERRORS, OUTPUT, Entry, Journal, counted, spent_in


def entry(name: str, *, is_error: bool = False, usage: Any = None) -> Entry:
    body = {"usage": usage} if usage else {"text": "ö " * 9}
    text = json.dumps({"id": "x", "custom_id": name, "response": {"body": body}, "error": None}, ensure_ascii=False)
    return Entry(name, text.encode(), is_error, spent_in(json.dumps(body).encode()))


def test_lines_are_counted_by_kind_and_are_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with Journal(tmp_path, 9) as journal:
        journal.append([entry("a"), entry("b", is_error=True)])
        journal.append([entry("c")])
        assert journal.counts == Counts(9, 2, 1)
    assert counted(tmp_path, 9) == Counts(9, 2, 1)
    with Journal(tmp_path, 9) as journal:
        assert (journal.counts, journal.done) == (Counts(9, 2, 1), {"a", "b", "c"})


WHOLE = b"".join(entry(name).text + b"\n" for name in "abc")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(end=st.integers(0, len(WHOLE)), zeros=st.integers(0, 9))
def test_of_a_file_torn_anywhere_the_whole_lines_are_kept_and_it_goes_on_behind_them(
    tmp_path: Path, end: int, zeros: int
) -> None:
    (tmp_path / OUTPUT).write_bytes(WHOLE[:end] + bytes(zeros))
    kept = WHOLE[:end].count(b"\n")
    with Journal(tmp_path, 3) as journal:
        assert journal.counts.completed == kept
        assert journal.done == set("abc"[:kept])
        journal.append([entry("z")])
    lines = (tmp_path / OUTPUT).read_text().splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == [*"abc"[:kept], "z"]


def test_what_cannot_be_written_whole_is_not_counted_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.write, iter([4, 0])

    def full(descriptor: int, data: Any) -> int:
        if count := next(calls):
            return write(descriptor, data[:count])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path, 2) as journal:
        journal.append([entry("a")])
        size = (tmp_path / OUTPUT).stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(ResourceError):
                journal.append([entry("b")])
        assert (journal.counts.completed, journal.done) == (1, {"a"})
        assert (tmp_path / OUTPUT).stat().st_size == size
        journal.append([entry("b")])
        assert journal.counts.completed == 2


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}, (3, 4, 2, 0)),
        ({"input_tokens": 5, "output_tokens": 6, "output_tokens_details": {"reasoning_tokens": 1}}, (5, 6, 0, 1)),
        ({"prompt_tokens": 7, "total_tokens": 7}, (7, 0, 0, 0)),
        ({"prompt_tokens": "many"}, (0, 0, 0, 0)),
    ],
)
def test_tokens_are_summed_as_any_endpoint_names_them(tmp_path: Path, usage: Any, spent: tuple[int, ...]) -> None:
    with Journal(tmp_path, 2) as journal:
        journal.append([entry("a", usage=usage), entry("b", usage=usage)])
    with Journal(tmp_path, 2) as journal:
        assert journal.spent == Spent(*spent) + Spent(*spent)


def test_tokens_of_errors_do_not_count(tmp_path: Path) -> None:
    with Journal(tmp_path, 1) as journal:
        journal.append([entry("a", is_error=True, usage={"prompt_tokens": 3})])
        assert journal.spent == Spent()
    assert (tmp_path / ERRORS).stat().st_mode & 0o777 == 0o600
