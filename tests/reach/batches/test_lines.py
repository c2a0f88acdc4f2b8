"""Every line of an input is checked before any is run: what is wrong is told by line, in bounds, not quoted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catena.reach.batches.lines import MAX_PROBLEMS, Checked, Source, check

URL = "/v1/embeddings"


def line(name: str, **changes: Any) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": URL, "body": {"model": "m"}, **changes})


def checked(tmp_path: Path, *lines: str | bytes, **bounds: int) -> Checked:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(one if isinstance(one, bytes) else one.encode() for one in lines))
    return check(path, URL, **{"max_lines": 200, "max_line_bytes": 2000, "max_depth": 9, **bounds})


def test_a_right_input_has_a_number_of_lines_and_the_model_that_all_name(tmp_path: Path) -> None:
    assert checked(tmp_path, line("a"), "", line("b")) == Checked(2, (), "m")
    assert checked(tmp_path, line("a"), line("b", body={"model": "n"})).model is None
    assert checked(tmp_path, line("a", body={"model": 5})).model is None


def test_one_line_too_many_and_one_that_is_too_long_are_told(tmp_path: Path) -> None:
    found = checked(tmp_path, line("a"), line("b"), line("c"), max_lines=2)
    assert [problem.code for problem in found.problems] == ["too_many_requests"]
    found = checked(tmp_path, line("a"), line("b" * 200), max_line_bytes=120)
    assert [(problem.code, problem.line) for problem in found.problems] == [("line_too_long", 2)]


def test_of_many_problems_the_first_are_told(tmp_path: Path) -> None:
    assert len(checked(tmp_path, *["{"] * (MAX_PROBLEMS + 50)).problems) == MAX_PROBLEMS


def test_nesting_names_that_occur_twice_and_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    found = checked(
        tmp_path,
        line("a", body={"x": [[[[[[[[[[]]]]]]]]]]}),
        line("b")[:-1] + ', "url": "x"}',
        b'{"custom_id": "\xff"}',
    )
    assert [problem.line for problem in found.problems] == [1, 2, 3]


def test_no_problem_quotes_the_line(tmp_path: Path) -> None:
    secret = "the-secret"
    bad = [
        secret,
        f'{{"custom_id": "{secret}"',
        line(secret),
        line(secret),
        line("b", url=secret),
        line("c", method=secret),
        line("d", body=secret),
        line(secret * 60),
    ]
    found = checked(tmp_path, *bad)
    assert len(found.problems) == 7
    assert secret not in "".join(problem.message for problem in found.problems)


def test_a_source_passes_over_what_is_done_and_gives_bodies_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line("a") + "\n" + line("b", body={"x": 1.50, "y": "ü"}) + "\n\n" + line("c"))
    with Source(path, 1000) as source:
        second = source.next({"a", "c"})
        assert second is not None
        assert (second.custom_id, second.body) == ("b", b'{"x": 1.5, "y": "\\u00fc"}')
        assert source.next({"a", "c"}) is None


VALUES = (
    st.none() | st.text(max_size=5) | st.integers() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
LINES = st.lists(
    st.sampled_from([line("a"), line("b"), line("c", body={"stream": True}), "", " ", "null", "[]", "1e999", '"x"'])
    | st.text(max_size=20)
    | st.dictionaries(
        st.sampled_from(["custom_id", "method", "url", "body", "x"]),
        st.none()
        | st.text(max_size=5)
        | st.integers()
        | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        max_size=5,
    ).map(json.dumps),
    max_size=8,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_any_lines_are_run_or_told(tmp_path: Path, lines: list[str]) -> None:
    found = checked(tmp_path, *lines)
    if found.problems:
        assert all(problem.code and problem.message for problem in found.problems)
        return
    names = []
    with Source(tmp_path / "in.jsonl", 2000) as source:
        while one := source.next(set(names)):
            names.append(one.custom_id)
            assert isinstance(json.loads(one.body), dict)
    assert len(names) == found.num_lines > 0
