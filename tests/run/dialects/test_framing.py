"""Bodies are split the same way however they arrive, and never beyond their bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catena.core.errors import NetworkError
from catena.run.dialects.framing import Frame, framer

STREAM = (
    b'\xef\xbb\xbf: hello\n\nevent: start\r\ndata: {"a": 1}\r\n\r\ndata:no space\rdata: second line\r\r'
    b"id: 7\nretry: 10\n\nevent: lonely\n\ndata: after\n\ndata\n\ndata: [DONE]\n\n"
)
FRAMES = [
    Frame("start", b'{"a": 1}'),
    Frame("", b"no space\nsecond line"),
    Frame("", b"after"),
    Frame("", b""),
    Frame("", b"[DONE]"),
]


def split(kind: str, pieces: list[bytes], **bounds: int) -> list[Frame]:
    body = framer(kind, **bounds)  # type: ignore[arg-type]
    found = [frame for piece in pieces for frame in body.feed(piece)]
    return [*found, *body.end()]


def test_events_have_names_data_of_many_lines_and_any_line_end() -> None:
    assert split("sse", [STREAM]) == FRAMES


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert split("sse", [STREAM[a:b] for a, b in pairwise(edges)]) == FRAMES


def test_an_event_is_there_as_soon_as_its_empty_line_is() -> None:
    body = framer("sse")
    assert list(body.feed(b"data: 1\n\n")) == [Frame("", b"1")]
    assert list(body.feed(b"data: 2\r\n\r\n")) == [Frame("", b"2")]
    assert list(body.feed(b"data: 3\r\r")) == [Frame("", b"3")]
    assert list(body.feed(b"\ndata: 4\n")) == []
    assert list(body.feed(b"\n")) == [Frame("", b"4")]


def test_a_last_event_without_its_empty_line_counts_and_a_cut_line_does_not() -> None:
    assert split("sse", [b"data: [DONE]\n"]) == [Frame("", b"[DONE]")]
    assert split("sse", [b"data: whole\n\ndata: cu"]) == [Frame("", b"whole")]


def test_lines_of_ndjson_do_not_depend_on_how_the_bytes_arrive() -> None:
    text = b'{"a":1}\n\r\n{"b":"\xc3\xa9"}\r\n{"done":true}'
    expected = [Frame("", b'{"a":1}'), Frame("", b'{"b":"\xc3\xa9"}'), Frame("", b'{"done":true}')]
    assert split("ndjson", [text]) == expected
    assert split("ndjson", [bytes([byte]) for byte in text]) == expected


@pytest.mark.parametrize("kind", ["sse", "ndjson"])
def test_a_line_beyond_the_bound_is_refused_before_it_ends(kind: str) -> None:
    body = framer(kind, max_line_bytes=100)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="a line of the provider's answer is longer than 100 bytes"):
        for _ in range(11):
            list(body.feed(b"x" * 10))


def test_an_event_beyond_the_bound_is_refused_though_its_lines_are_short() -> None:
    with pytest.raises(NetworkError, match="an event of the provider's answer is longer than 100 bytes"):
        split("sse", [b"data: 123456789\n" * 11], max_event_bytes=100)
