"""Runs batches: a few requests at a time, each under the key that made its batch, through kills and on from there."""

from __future__ import annotations

import logging

import anyio
import anyio.to_thread

from catena.core.errors import CatenaError
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.batches.batch import Batch
from catena.reach.batches.batches import MAX_OPEN, Batches
from catena.reach.batches.files import Files
from catena.reach.batches.work import Ask, Means, Work
from catena.reach.gateway.background import Background

SWEEP_S = 60.0

log = logging.getLogger("catena.reach.batches")


class Runner:
    """Runs what `batches` holds, at most `reach.batch_concurrency` requests at a time over all of them."""

    def __init__(self, batches: Batches, files: Files, access: Access, settings: ReachSettings) -> None:
        self.batches = batches
        self.files = files
        self.settings = settings
        self._access = access
        # One that has ended may still be here when its successor comes.
        self._running = Background(2 * MAX_OPEN)
        self._works: dict[str, Work] = {}
        self._means: Means | None = None

    def recover(self) -> None:
        """Clear away what a process that died left, once, before anybody can ask: later it may be somebody's work."""
        try:
            self.files.recover()
            self.batches.recover()
        except (CatenaError, OSError) as error:
            log.warning("what was left of batches and files stays: %s", error)

    async def run(self, ask: Ask) -> None:
        """Go on with what was begun, then with what comes, until cancelled; then nothing of it runs any more."""
        turns = anyio.CapacityLimiter(self.settings.batch_concurrency)
        async with self._running.running():
            self._means = Means(self.batches, self.files, self._access, self.settings, turns, ask, self._works)
            try:
                while True:
                    try:
                        for batch in await anyio.to_thread.run_sync(self._look):
                            self.start(batch)
                    except (CatenaError, OSError) as error:
                        log.warning("batches and files are not looked after: %s", error)
                    await anyio.sleep(SWEEP_S)
            finally:
                self._means = None

    def start(self, batch: Batch) -> None:
        """Begin a batch; where nothing runs now, that is for the next start."""
        if self._means is not None and batch.id not in self._works:
            work = Work(self._means, batch)
            self._running.start(work)
            self._works[batch.id] = work

    def is_running(self, id: str) -> bool:
        """Whether something works on a batch now."""
        return id in self._works

    def stop(self, id: str) -> None:
        """Have the work on a batch end now, for whatever its status says."""
        if work := self._works.get(id):
            work.scope.cancel()

    def _look(self) -> list[Batch]:
        """Delete what is past its time; what is to be gone on with, also what broke off, e.g. for want of space."""
        self.files.sweep(self.batches.inputs())
        return self.batches.open_rows()
