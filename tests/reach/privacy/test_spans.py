"""Findings that overlap become one list in which nothing that was covered is bare."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.spans import Span, compose

TEXT = "Anna Smith, 12 Elm Street, Salem 01970"
spans = st.lists(
    st.builds(
        lambda start, length, type, score: Span(start, min(start + length, len(TEXT)), type, score),
        st.integers(0, len(TEXT)),
        st.integers(0, 12),
        st.sampled_from(sorted(KINDS)),
        st.floats(0, 1),
    ),
    max_size=12,
)


@given(spans)
def test_what_counts_stays_covered_and_nothing_overlaps(found: list[Span]) -> None:
    composed = compose(TEXT, found)
    assert all(one.end <= two.start for one, two in pairwise(composed))
    covered = {place for span in composed for place in range(span.start, span.end)}
    meant = {place for span in found if span.score >= 0.5 for place in range(span.start, span.end)}
    assert covered <= meant
    assert not any(TEXT[place].isalnum() for place in meant - covered)


def test_the_better_one_stands_whole_and_the_rest_of_the_other_stays() -> None:
    name, wide = Span(0, 10, "person", 0.9), Span(5, 25, "address", 0.6)
    assert compose(TEXT, [wide, name]) == [name, Span(12, 25, "address", 0.6)]


def test_what_does_not_count_is_left_out() -> None:
    assert compose(TEXT, [Span(0, 4, "person", 0.49)]) == []
