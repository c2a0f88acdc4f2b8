"""A stretch of private text, and how many detectors' findings become one list without overlaps."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Span(Struct, frozen=True):
    """`text[start:end]`, in Unicode code points, is of a kind in KINDS, with a score in 0..1; it counts from 0.5 on."""

    start: int
    end: int
    type: str
    score: float


COUNTS = 0.5


def compose(text: str, found: Iterable[Span], least: float = COUNTS) -> list[Span]:
    """Spans of at least `least` without overlaps, in order: of two that overlap the better stands whole.

    Better is the higher score, then the longer, then the earlier one. What the other covers beyond it stays covered,
    as a span of its own, where there are letters or digits in it.
    """
    ranked = sorted(
        (span for span in found if span.score >= least and span.start < span.end),
        key=lambda span: (-span.score, span.start - span.end, span.start),
    )
    kept: list[Span] = []
    for span in ranked:
        rest = [span]
        for other in kept:
            if other.start < span.end and span.start < other.end:
                rest = [piece for part in rest for piece in _without(part, other)]
        kept += [piece for part in rest if (piece := part if part is span else _trimmed(text, part)) is not None]
    return sorted(kept, key=lambda span: span.start)


def _without(span: Span, other: Span) -> list[Span]:
    """What of `span` is not `other`'s."""
    if other.end <= span.start or span.end <= other.start:
        return [span]
    pieces: list[Span] = []
    if span.start < other.start:
        pieces.append(Span(span.start, other.start, span.type, span.score))
    if other.end < span.end:
        pieces.append(Span(other.end, span.end, span.type, span.score))
    return pieces


def _trimmed(text: str, span: Span) -> Span | None:
    """Without what is neither letter nor digit at either end; None if nothing is left."""
    start, end = span.start, span.end
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return Span(start, end, span.type, span.score) if start < end else None
