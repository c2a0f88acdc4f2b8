"""Who is let in, and when: a bounded queue over all models, its places and every session's slots shared fairly.

Nothing here waits, so every step is whole.
"""

from __future__ import annotations

from collections.abc import Callable

from catena.core.clock import monotonic_s
from catena.core.errors import BusyError, CancelledError, CatenaError
from catena.core.manifest import StoredModel
from catena.core.protocols import Session
from catena.run.scheduler import status
from catena.run.scheduler.line import Waiter
from catena.run.scheduler.tenant import Cost, Key, Tenant, key_of

MIN_RETRY_S, MAX_RETRY_S = 1.0, 120.0


class Admission:
    """Lines, slots and places. `bring` is to load a tenant, `renew` to close a broken one that nobody uses, `stir` to
    tell that one became idle or unwanted, `look` that one with an idle time of its own did."""

    def __init__(
        self,
        tenants: dict[Key, Tenant],
        queue_limit: int,
        bring: Callable[[Tenant], None],
        renew: Callable[[Tenant], None],
        stir: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        self.num_waiting = 0
        self.is_open = False
        self._tenants = tenants
        self._queue_limit = queue_limit
        self._bring = bring
        self._renew = renew
        self._stir = stir
        self._look = look
        self._costs: dict[Key, Cost] = {}

    def tenant(self, model: StoredModel, adapters: tuple[StoredModel, ...]) -> Tenant:
        """The tenant that a request belongs to, made if there is none."""
        key = key_of(model, adapters)
        tenant = self._tenants.get(key)
        if tenant is None:
            self._check_open()
            cost = self._costs.setdefault(key, Cost())
            tenant = self._tenants[key] = Tenant(key, model, adapters, cost)
        return tenant

    def try_start(self, tenant: Tenant, caller: str, now_s: float, *, is_background: bool = False) -> Session | None:
        """The session, if a slot is free and nobody was there before; the lease then runs."""
        if not (self.is_open and tenant.admits(now_s, is_background=is_background)):
            return None
        tenant.start(caller, is_background=is_background)
        status.LEASED.add(1)
        return tenant.session

    def join(self, tenant: Tenant, caller: str, now_s: float, *, is_background: bool = False) -> Waiter:
        """Wait in line. Raises BusyError when the queue is full and nobody has more of it than `caller`.

        What is in the background takes no place in the queue: whoever asks so sees to it that there are few.
        """
        self._check_open()
        if self.num_waiting >= self._queue_limit and not is_background:
            try:
                self._push_out(tenant, caller)
            except BusyError:
                self.settle(tenant)  # it may have been made for this request
                raise
        waiter = Waiter(caller, now_s, is_background=is_background)
        tenant.line_of(is_background).join(waiter)
        self._count_waiting(not is_background)
        self.settle(tenant)
        return waiter

    def settle(self, tenant: Tenant) -> None:
        """Let in who may be let in; load a model that somebody waits for; forget one that nobody does."""
        if tenant.stage == "cold":
            if not tenant.is_wanted():
                self._tenants.pop(tenant.key, None)
            elif self.is_open:
                tenant.stage = "waiting"
                self._bring(tenant)
            return
        if tenant.is_broken():
            if self.is_open and not tenant.active:
                self._renew(tenant)
            return
        now_s = monotonic_s()
        while (waiter := tenant.next(now_s)) is not None:
            self._count_waiting(-(not waiter.is_background))
            status.LEASED.add(1)
            waiter.is_granted = True
            waiter.event.set()

    def stop(self, tenant: Tenant, caller: str, began_s: float, *, is_background: bool = False) -> None:
        """A lease that ran since `began_s` ended."""
        now_s = monotonic_s()
        tenant.cost.note_lease(now_s - began_s)
        self._free(tenant, caller, now_s, is_background)

    def give_up(self, tenant: Tenant, waiter: Waiter) -> None:
        """A request in line was cancelled: it leaves no trace, also when its turn had just come."""
        if waiter.is_granted:
            self._free(tenant, waiter.caller, monotonic_s(), waiter.is_background)
        elif waiter.error is None:
            tenant.line_of(waiter.is_background).leave(waiter)
            self._count_waiting(-(not waiter.is_background))
            if not tenant.is_wanted():
                self._stir()
            elif not tenant.line:
                self.settle(tenant)

    def fail(self, tenant: Tenant, error: CatenaError) -> None:
        """Everybody in line gets an error of their own, because the router writes a receipt into it."""
        waiters = tenant.line.clear()
        self._count_waiting(-len(waiters))
        for waiter in (*waiters, *tenant.background.clear()):
            own = type(error).__new__(type(error), *error.args)
            own.__dict__.update(error.__dict__)
            own.__cause__ = error
            waiter.error = own
            waiter.event.set()

    def _free(self, tenant: Tenant, caller: str, now_s: float, is_background: bool) -> None:
        tenant.stop(caller, now_s, is_background=is_background)
        status.LEASED.add(-1)
        if tenant.is_wanted() or tenant.is_broken():
            self.settle(tenant)
        if not tenant.active:
            self._stir()
            if tenant.keep_s is not None:
                self._look()

    def _push_out(self, tenant: Tenant, caller: str) -> None:
        """Free a place: the last request of whoever has the most goes, if `caller` will then still not have more."""
        counts: dict[str, int] = {}
        for one in self._tenants.values():
            for waiter in one.line:
                counts[waiter.caller] = counts.get(waiter.caller, 0) + 1
        status.REFUSED.add()
        greediest = max(counts, key=counts.__getitem__)
        if counts[greediest] <= counts.get(caller, 0) + 1:
            raise self._busy(tenant, len(counts))
        ends = [(one, last) for one in self._tenants.values() if (last := one.line.newest(greediest)) is not None]
        place, waiter = max(ends, key=lambda end: end[1].since_s)
        waiter.error = self._busy(place, len(counts))
        place.line.leave(waiter)
        self._count_waiting(-1)
        waiter.event.set()

    def _busy(self, tenant: Tenant, num_callers: int) -> BusyError:
        """A place of a caller becomes free when one of its own requests is let in: after one round of all callers."""
        now_s, cost = monotonic_s(), tenant.cost
        wait_s = (cost.lease_s or 0.0) * num_callers / max(1, tenant.slots)
        if tenant.session is None:
            began_s = tenant.load_began_s if tenant.stage == "loading" else now_s
            wait_s += max(0.0, began_s + (cost.load_s or 0.0) - now_s)
        return BusyError(
            f"{self.num_waiting} requests are waiting already, which is the limit",
            retry_after_s=min(MAX_RETRY_S, max(MIN_RETRY_S, wait_s)),
        )

    def _check_open(self) -> None:
        if not self.is_open:
            raise CancelledError("this machine is not serving models now", hint="start it with `catena up`")

    def _count_waiting(self, change: int) -> None:
        self.num_waiting += change
        status.WAITING.add(change)
