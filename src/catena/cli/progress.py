"""Progress of long work on standard error: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click

from catena.core.clock import monotonic_s
from catena.core.units import bytes_text, duration_text
from catena.store import Progress

WORDS = {"download": "downloading", "read": "reading", "store": "storing", "check": "checking"}
# Off a terminal, a step that lasts says so this often.
EVERY_S = 10.0


class Display:
    """Call it with each Progress; one bar, or one line, per phase and thing."""

    def __init__(self) -> None:
        self._step: tuple[str, str] | None = None
        self._bar: Any = None
        self._is_terminal = sys.stderr.isatty()
        self._said_s = 0.0

    def __call__(self, progress: Progress) -> None:
        step = (progress.phase, progress.what)
        if step != self._step:
            self.close()
            self._step = step
            self._begin(progress)
        if self._bar is not None:
            if progress.total_bytes:
                self._bar.length = progress.total_bytes
            if pace := _pace(progress):
                self._bar.show_eta = False  # the bar's own would count what was there before as fetched just now
                self._bar.label = f"{WORDS[progress.phase]} {progress.what}, {pace}"
            self._bar.update(max(0, progress.done_bytes - self._bar.pos))
        elif monotonic_s() - self._said_s > EVERY_S:
            self._say(progress)

    def close(self) -> None:
        """End the bar of the last step."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._bar = self._step = None

    def _begin(self, progress: Progress) -> None:
        if self._is_terminal and progress.total_bytes:
            label = f"{WORDS[progress.phase]} {progress.what}"
            self._bar = click.progressbar(length=progress.total_bytes, label=label, file=sys.stderr)
            self._bar.__enter__()
        else:
            self._say(progress)

    def _say(self, progress: Progress) -> None:
        self._said_s = monotonic_s()
        done = bytes_text(progress.done_bytes)
        of = f"{done} of {bytes_text(progress.total_bytes)}" if progress.total_bytes else done
        amount = f" ({', '.join(filter(None, (of, _pace(progress))))})" if progress.done_bytes else ""
        click.echo(f"{WORDS[progress.phase]} {progress.what}{amount}", err=True)


def _pace(progress: Progress) -> str:
    """The rate and the time that is left, where they are known."""
    if not progress.rate_bytes_s:
        return ""
    left = f", {duration_text(progress.left_s)} left" if progress.left_s else ""
    return f"{bytes_text(progress.rate_bytes_s)}/s{left}"


@contextmanager
def shown() -> Generator[Display]:
    """A Display for the block."""
    display = Display()
    try:
        yield display
    finally:
        display.close()
