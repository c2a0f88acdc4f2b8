"""One model with its adapters, as it stands in memory: cold, waiting for memory, loading, loaded, closing."""

from __future__ import annotations

from typing import Literal, NamedTuple

from catena.core.manifest import StoredModel
from catena.core.protocols import Session
from catena.run.scheduler.line import Line, Waiter

Key = tuple[str, tuple[str, ...]]
Stage = Literal["cold", "waiting", "loading", "loaded", "closing"]
# A session that others want the memory of serves late-comers for twice its load time, within these bounds: so loads of
# up to 30 s take at most a third of the time, and nobody waits for ever.
MIN_TURN_S, MAX_TURN_S = 5.0, 60.0
RECENT = 0.2


def key_of(model: StoredModel, adapters: tuple[StoredModel, ...]) -> Key:
    """What two requests must have in common to share a session."""
    return (model.digest, tuple(sorted(adapter.digest for adapter in adapters)) if adapters else ())


class Cost:
    """What is known about a model from having run it; kept while the scheduler lives. None: not measured yet."""

    __slots__ = ("lease_s", "load_s", "memory_bytes")

    def __init__(self) -> None:
        self.memory_bytes: int | None = None
        self.load_s: float | None = None
        self.lease_s: float | None = None

    def note_lease(self, took_s: float) -> None:
        """Keep a moving average of how long leases last."""
        self.lease_s = took_s if self.lease_s is None else self.lease_s + RECENT * (took_s - self.lease_s)


class Yield(NamedTuple):
    """Somebody else needs this memory: who came after `before_s` is let in until `until_s` only."""

    before_s: float
    until_s: float


class Tenant:
    """The state of one key. All times are seconds of core.clock.monotonic_s."""

    __slots__ = (
        "active",
        "adapters",
        "background",
        "cost",
        "keep_s",
        "key",
        "line",
        "load_began_s",
        "loaded_s",
        "memory_bytes",
        "model",
        "num_background",
        "session",
        "slots",
        "stage",
        "used_s",
        "yields",
    )

    def __init__(self, key: Key, model: StoredModel, adapters: tuple[StoredModel, ...], cost: Cost) -> None:
        self.key = key
        self.model = model
        self.adapters = adapters
        self.cost = cost
        self.line = Line()
        self.background = Line()  # of requests that nobody waits for: they get what the others leave
        self.num_background = 0  # of the leases in `active`
        self.stage: Stage = "cold"
        self.session: Session | None = None
        self.slots = 0
        self.active = 0
        self.memory_bytes = 0
        self.load_began_s = self.loaded_s = self.used_s = 0.0
        self.yields: Yield | None = None
        self.keep_s: float | None = None  # how long it may idle, where somebody said so; inf: as long as it can

    def needed_bytes(self) -> int:
        """Memory it took last time; before the first time the size of its files, which is the least it can take."""
        if self.cost.memory_bytes is not None:
            return self.cost.memory_bytes
        weights = sum(file.size_bytes for file in self.model.manifest.files if file.role == "weights")
        return weights + sum(file.size_bytes for adapter in self.adapters for file in adapter.manifest.files)

    def opened(self, session: Session, now_s: float) -> None:
        """`session` was loaded; its slots are free."""
        self.session, self.slots = session, max(1, session.facts.slots)
        self.memory_bytes = self.cost.memory_bytes = session.facts.memory_bytes
        self.cost.load_s = now_s - self.load_began_s
        self.loaded_s = self.used_s = now_s
        self.stage = "loaded"

    def closed(self) -> None:
        """Nothing is loaded any more."""
        self.session, self.slots, self.memory_bytes, self.stage, self.yields = None, 0, 0, "cold", None
        self.keep_s = None

    def is_broken(self) -> bool:
        """Whether what is loaded answers no more; a session may say so of itself."""
        return self.stage == "loaded" and getattr(self.session, "is_broken", False)

    def is_wanted(self) -> bool:
        """Whether anything waits for it."""
        return bool(self.line or self.background)

    def line_of(self, is_background: bool) -> Line:
        """Where such a request waits."""
        return self.background if is_background else self.line

    def admits(self, now_s: float, *, is_background: bool = False) -> bool:
        """Whether a request that comes now may start at once."""
        if is_background and (self.background or not self._has_background_slot()):
            return False
        return (
            self.stage == "loaded"
            and self.active < self.slots
            and not self.line
            and not self.is_broken()
            and (self.yields is None or now_s < self.yields.until_s)
        )

    def start(self, caller: str, *, is_background: bool = False) -> None:
        """A lease of `caller` starts, without having been in line."""
        self.active += 1
        self.num_background += is_background
        self.line_of(is_background).start(caller)

    def next(self, now_s: float) -> Waiter | None:
        """Let the next waiting request in, if there is a free slot and one that may have it."""
        if self.stage != "loaded" or self.active >= self.slots:
            return None
        if self.line:
            is_over = self.yields is not None and now_s >= self.yields.until_s
            waiter = self.line.take(self.yields.before_s if is_over and self.yields is not None else None)
        else:
            waiter = self.background.take() if self._has_background_slot() else None
            self.num_background += waiter is not None
        if waiter is not None:
            self.active += 1
        return waiter

    def stop(self, caller: str, now_s: float, *, is_background: bool = False) -> None:
        """A lease of `caller` ended; whoever waits has yet to be let in."""
        self.active -= 1
        self.num_background -= is_background
        self.line_of(is_background).stop(caller)
        self.used_s = now_s

    def _has_background_slot(self) -> bool:
        """Half of the slots, and never the last of several, are for requests that nobody waits for; none while others
        need the memory."""
        return self.yields is None and self.num_background < max(1, self.slots // 2)

    def yield_to(self, since_s: float) -> None:
        """Make room for requests of another model, the oldest of which waits since `since_s`."""
        turn_s = min(MAX_TURN_S, max(MIN_TURN_S, 2 * (self.cost.load_s or 0.0)))
        self.yields = Yield(since_s, max(since_s, self.loaded_s) + turn_s)

    def reluctance(self, now_s: float) -> tuple[bool, float]:
        """Orders what could be unloaded: idle ones first, by idle time over reload cost; then the longest loaded."""
        if self.active:
            return (True, self.loaded_s)
        return (False, -(now_s - self.used_s) / max(self.cost.load_s or 0.0, 0.01))
