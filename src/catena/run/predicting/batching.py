"""Requests that come at the same time are computed together: one run at a time, others gather while it lasts.

An idle session starts at once. Only if its last run served several requests does it wait for as many again, and for
`window_s` at most. So a lone caller never waits, and nobody waits for company longer than a run and the window.
Where a run takes less time than handing it to a thread, it is made on the event loop, with what came in the same turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from catena.core.errors import CatenaError, EngineError


class Call:
    """One request in line: its arrays by name, the outputs wanted, and its rows. Calls with one `key` may share a run,
    those without a key never do."""

    __slots__ = ("feeds", "future", "key", "num_rows", "wanted")

    def __init__(self, feeds: dict[str, Any], wanted: tuple[str, ...], num_rows: int, key: Hashable | None) -> None:
        self.feeds = feeds
        self.wanted = wanted
        self.num_rows = num_rows
        self.key = key
        self.future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()


class Done(NamedTuple):
    """What came of a call: its outputs in the order wanted, seconds of the run, and what `Prediction` says of it."""

    outputs: list[Any]
    took_s: float
    run_rows: int
    is_first: bool


class Stop:
    """Tells a run that nobody wants it any more."""

    __slots__ = ("act", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self.act: Callable[[], None] = lambda: None

    def set(self) -> None:
        self.is_set = True
        self.act()


Run = Callable[[list[Call], Stop], list[Done]]


class Batcher:
    """The line before one model. `run` computes calls of one key together, on a thread of its own; with `is_quick`
    those with a key on the event loop."""

    def __init__(self, run: Run, max_rows: int, window_s: float, *, is_quick: bool = False) -> None:
        self._is_quick = is_quick
        self._soon: list[Call] = []
        self._run = run
        self._max_rows = max_rows
        self._window_s = window_s
        self._waiting: list[Call] = []
        self._running: list[Call] = []
        self._stop = Stop()
        self._num_expected = 1
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._pool = ThreadPoolExecutor(1, "predict")

    async def done(self, call: Call) -> Done:
        """Wait in line, be computed. Cancelling takes the call out; a run that nobody is left in is stopped."""
        if self._is_closed:
            raise EngineError("the session is closed")
        if self._is_quick and call.key is not None:
            if not self._soon:
                asyncio.get_running_loop().call_soon(self._run_here)
            self._soon.append(call)
        else:
            self._waiting.append(call)
            if not self._running:
                self._start(is_late=False)
        try:
            return await call.future
        except asyncio.CancelledError:
            if call in self._waiting:
                self._waiting.remove(call)
            elif self._running and all(one.future.cancelled() for one in self._running):
                self._stop.set()
            raise

    async def close(self) -> None:
        """Refuse what comes and what waits; return when the run that may be going on has ended."""
        self._is_closed = True
        self._disarm()
        for call in (*self._waiting, *self._soon):
            if not call.future.done():
                call.future.set_exception(EngineError("the session is closed"))
        self._waiting.clear()
        self._soon.clear()
        await self._idle.wait()
        self._pool.shutdown()

    def _start(self, *, is_late: bool) -> None:
        """Run what waits; on an idle session perhaps after a moment, when more has come."""
        if not self._waiting:
            return
        if not is_late and self._window_s and len(self._waiting) < self._num_expected:
            if self._timer is None and self._waiting[0].key is not None:
                self._timer = asyncio.get_running_loop().call_later(self._window_s, self._too_long)
            if self._timer is not None:
                return
        self._disarm()
        calls, self._waiting = self._taken(self._waiting)
        self._running, self._num_expected, self._stop = calls, len(calls), Stop()
        self._idle.clear()
        job = asyncio.get_running_loop().run_in_executor(self._pool, self._run, calls, self._stop)
        job.add_done_callback(self._ended)

    def _too_long(self) -> None:
        self._timer = None
        if not self._running:
            self._start(is_late=True)

    def _run_here(self) -> None:
        """Compute what came in this turn of the event loop."""
        soon, self._soon = [call for call in self._soon if not call.future.done()], []
        while soon:
            calls, soon = self._taken(soon)
            error: CatenaError | None = None
            results: list[Done] = []
            try:
                results = self._run(calls, Stop())
            except CatenaError as caught:
                error = caught
            finally:
                for index, call in enumerate(calls):
                    if results:
                        call.future.set_result(results[index])
                    else:
                        call.future.set_exception(error or EngineError("the engine broke"))

    def _taken(self, waiting: list[Call]) -> tuple[list[Call], list[Call]]:
        """The oldest call with those like it that came since, as many as fit; and the others."""
        first = waiting[0]
        taken, left, num_rows = [first], list[Call](), first.num_rows
        for call in waiting[1:]:
            if first.key is not None and call.key == first.key and num_rows + call.num_rows <= self._max_rows:
                taken.append(call)
                num_rows += call.num_rows
            else:
                left.append(call)
        return taken, left

    def _ended(self, job: asyncio.Future[list[Done]]) -> None:
        calls, self._running = self._running, []
        self._stop = Stop()  # the old one may hold on to the model
        error = job.exception()
        for index, call in enumerate(calls):
            if call.future.done():
                continue
            if error is not None:
                call.future.set_exception(error)
            else:
                call.future.set_result(job.result()[index])
        self._idle.set()
        self._start(is_late=True)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
