"""Who is in memory, and who must go so that another fits: idle sessions first; a leased one may finish, is never cut.

Models that want memory are served in the order in which they asked. Only the first may close others or ask them to
yield; the rest may take what is free as long as the first does not need it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio

from catena.core.clock import monotonic_s
from catena.core.errors import BusyError, ResourceError
from catena.core.protocols import Headroom
from catena.core.units import bytes_text
from catena.run.scheduler import status
from catena.run.scheduler.tenant import Key, Tenant

CLOSE_TIMEOUT_S = 30.0
# Work in the background closes sessions that nobody used for this long, and looks for them this often.
RESTED_S = 30.0
LOOK_S = 1.0
DEVICE = "cpu"

log = logging.getLogger("catena.run.scheduler")


class Occupancy:
    """The tenants by key, and the memory they share: `limit_bytes`, or, where that is 0, what `headroom` says is free.

    `settle` is called for a tenant whose state changed: it lets in, loads again, or forgets.
    """

    def __init__(self, limit_bytes: int, headroom: Headroom, wait_s: float, settle: Callable[[Tenant], None]) -> None:
        self.tenants: dict[Key, Tenant] = {}
        self._limit_bytes = limit_bytes
        self._headroom = headroom
        self._wait_s = wait_s
        self._settle = settle
        self._wanting: list[Tenant] = []
        # Of the free room, what the first in `_wanting` will need once its victims are gone.
        self._promised_bytes = 0
        # The most that was ever free: what this machine could give if all sessions were closed.
        self._most_free_bytes = 0
        self._changed = anyio.Event()
        self._num_watching = 0

    def held_bytes(self) -> int:
        """Memory of everything loaded, being loaded or being closed."""
        return sum(tenant.memory_bytes for tenant in self.tenants.values())

    def room_bytes(self) -> int:
        """Memory that one more session may take now. Weights mapped from files look free, so both counts must agree."""
        if self._limit_bytes:
            return self._limit_bytes - self.held_bytes()
        free_bytes = self._headroom.free_bytes(DEVICE)
        self._most_free_bytes = max(self._most_free_bytes, free_bytes)
        return min(free_bytes, self._most_free_bytes - self.held_bytes())

    def is_over(self) -> bool:
        """Whether sessions say they take more than the limit, now that the last one is loaded."""
        return self._limit_bytes > 0 and self.held_bytes() > self._limit_bytes

    def stir(self) -> None:
        """Memory, a lease or a line changed: whoever waits for memory looks again."""
        if self._num_watching:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    async def changes(self) -> None:
        """Wait for the next `stir`."""
        self._num_watching += 1
        try:
            await self._changed.wait()
        finally:
            self._num_watching -= 1

    async def make_room(self, tenant: Tenant, *, is_retry: bool = False) -> bool:
        """Close what must be closed, then reserve memory for `tenant`; False if meanwhile nobody waits for it any more.

        `is_retry`: an engine said that the memory reserved was not enough, so anything more that can be closed is.
        Raises ResourceError (both numbers) for a model that can never fit, BusyError when leases held the memory for
        too long.
        """
        self._wanting.append(tenant)
        asked: list[Tenant] = []
        try:
            with anyio.move_on_after(self._wait_s):
                while tenant.is_wanted():
                    if await self._step(tenant, asked, is_retry):
                        return True
                return False
        finally:
            self._wanting.remove(tenant)
            self._release(asked)
            self.stir()
        name = tenant.model.name
        raise BusyError(f"no memory became free for {name} in {self._wait_s:.0f} s", retry_after_s=self._wait_s)

    async def _step(self, tenant: Tenant, asked: list[Tenant], is_retry: bool) -> bool:
        """Look once; True if `tenant` has its memory now. Otherwise something was closed, or changed."""
        needed_bytes, room_bytes = tenant.needed_bytes(), self.room_bytes()
        # What nobody waits for comes after all that somebody does.
        is_first = next((one for one in self._wanting if one.line), self._wanting[0]) is tenant
        if not is_retry:
            self._check_possible(tenant, needed_bytes)
            if needed_bytes <= room_bytes - (0 if is_first else self._promised_bytes):
                return self._reserve(tenant, needed_bytes)
        if is_first:
            others = [one for one in self.tenants.values() if one is not tenant and one.memory_bytes]
            if not others:
                return self._reserve(tenant, needed_bytes)  # nothing left to close: the engine has the last word
            loaded = [one for one in others if one.stage == "loaded"]
            if not tenant.line:
                # Nobody waits for an answer: only what has been idle for a while goes, and is looked for again.
                loaded = [one for one in loaded if not one.active and monotonic_s() - one.used_s >= RESTED_S]
            idle = [one for one in loaded if not one.active]
            if is_retry and idle:
                for one in idle:
                    if one.stage == "loaded" and not one.active:
                        await self.close(one, "memory")
                return self._reserve(tenant, needed_bytes)
            victims = _victims(loaded, 1 if is_retry else needed_bytes - room_bytes)
            if victims and not victims[0].active:
                await self.close(victims[0], "memory")
                return False
            self._ask(tenant, victims, asked)
            self._promised_bytes = max(0, needed_bytes - sum(one.memory_bytes for one in victims))
        with anyio.move_on_after(LOOK_S if is_first and not tenant.line else math.inf):
            await self.changes()
        return False

    async def close(self, tenant: Tenant, reason: str) -> None:
        """Close the session of an idle `tenant`; also when the one who asks is cancelled."""
        assert tenant.stage == "loaded" and not tenant.active and tenant.session is not None
        session = tenant.session
        tenant.stage = "closing"
        status.UNLOADS.labels(reason).add()
        status.OPEN.add(-1)
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as scope:
            try:
                await session.close()
            except Exception:
                log.exception("the session of %s did not close well", tenant.model.name)
        if scope.cancelled_caught:
            log.warning("the session of %s did not close within %.0f s", tenant.model.name, CLOSE_TIMEOUT_S)
        status.MEMORY.add(-tenant.memory_bytes)
        tenant.closed()
        self._settle(tenant)
        self.stir()

    def _check_possible(self, tenant: Tenant, needed_bytes: int) -> None:
        most_bytes = self._limit_bytes or self._most_free_bytes
        if needed_bytes > most_bytes:
            hint = "raise run.memory_bytes" if self._limit_bytes else "close other programs"
            raise ResourceError(
                f"{tenant.model.name} needs {bytes_text(needed_bytes)} of memory, models may use "
                f"{bytes_text(most_bytes)}",
                hint=f"{hint}, set run.slots or run.context_tokens lower, or choose a smaller model",
            )

    def _reserve(self, tenant: Tenant, needed_bytes: int) -> bool:
        tenant.memory_bytes = needed_bytes
        return True

    def _ask(self, tenant: Tenant, victims: list[Tenant], asked: list[Tenant]) -> None:
        """Let `victims` know that `tenant` needs their memory, and nobody else."""
        since_s = tenant.line.oldest_s()
        self._release([one for one in asked if one not in victims])
        for one in victims:
            one.yield_to(monotonic_s() if since_s is None else since_s)
        asked[:] = victims

    def _release(self, asked: list[Tenant]) -> None:
        for one in asked:
            one.yields = None
            self._settle(one)
        self._promised_bytes = 0


def _victims(loaded: list[Tenant], missing_bytes: int) -> list[Tenant]:
    """The tenants to close so that `missing_bytes` become free, or all if that is not enough; most willing first."""
    now_s = monotonic_s()
    victims: list[Tenant] = []
    for one in sorted(loaded, key=lambda one: one.reluctance(now_s)):
        if missing_bytes <= 0:
            break
        victims.append(one)
        missing_bytes -= one.memory_bytes
    return victims
