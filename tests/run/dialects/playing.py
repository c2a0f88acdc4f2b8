"""Reads recorded answers through a dialect, in pieces of any size, as they would come over a socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from catena.core.messages import Event, GenerateRequest, Reply
from catena.core.messages.reply import Collector
from catena.run.dialects.dialect import Dialect
from catena.run.dialects.framing import framer

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> bytes:
    """One recorded body."""
    return (RECORDED / name).read_bytes()


def play(dialect: Dialect, request: GenerateRequest, body: bytes, *, size: int = 1 << 20) -> Iterator[Event]:
    """The events of `body`, which arrives `size` bytes at a time."""
    frames, answer = framer(dialect.framing), dialect.incoming(request)
    for start in range(0, len(body), size):
        for frame in frames.feed(body[start : start + size]):
            yield from answer.read(*frame)
    for frame in frames.end():
        yield from answer.read(*frame)
    yield from answer.end()


def gathered(events: Iterable[Event]) -> Reply:
    """The reply that `events` add up to."""
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.reply()
