"""What the tests of the audit log share: records, small logs on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catena.core.messages import Closed, Decision, Opened
from catena.watch.keys import Signer
from catena.watch.writer import Writer

DECISION = Decision("local", "only here", model="echo", model_digest="sha256:" + "a" * 64)


class Records:
    """Makes records with numbered receipts of the usual length."""

    def receipt(self, number: int) -> str:
        return f"rcpt_{number:026d}"

    def opened(self, number: int) -> Opened:
        digest = "sha256:" + "b" * 64
        return Opened(self.receipt(number), 1_795_000_000_000_000_000, "test", "local", "generate", DECISION, digest)

    def closed(self, number: int, index: int) -> Closed:
        return Closed(self.receipt(number), 1_795_000_001_000_000_000, index, "complete", "sha256:" + "c" * 64)


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.open(tmp_path)


@pytest.fixture
def grow(tmp_path: Path, signer: Signer, records: Records) -> Callable[..., Path]:
    """Write `num` requests in batches of `step`; without `is_closed` the log is left as by a kill."""

    def write(num: int, *, step: int = 8, is_closed: bool = True, keep_open: int = 0, name: str = "audit") -> Path:
        writer = Writer.open(tmp_path / name, signer)
        start = writer.view.size
        for first in range(0, num, step):
            numbers = range(start + first, start + min(first + step, num))
            indices = writer.commit([records.opened(number) for number in numbers])
            pairs = [(number, int(str(index))) for number, index in zip(numbers, indices, strict=True)]
            writer.commit([records.closed(*pair) for pair in pairs if pair[0] < start + num - keep_open])
        if is_closed:
            writer.close()
        else:
            writer.release()
        return tmp_path / name

    return write
