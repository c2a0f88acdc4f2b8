"""What the scheduler shows of itself: a snapshot for people, metrics for machines."""

from __future__ import annotations

from msgspec import Struct

from catena.watch import metrics

LOADS = metrics.counter("catena_run_loads_total", "Loads ended, by model and outcome.", ("model", "outcome"))
UNLOADS = metrics.counter("catena_run_unloads_total", "Sessions closed, by reason.", ("reason",))
LOAD_TIME = metrics.histogram("catena_run_load_seconds", "From asking an engine to an open session.", ("model",))
QUEUE_TIME = metrics.histogram("catena_run_queued_seconds", "Time in line, loading not counted.").labels()
WAITING = metrics.gauge("catena_run_waiting_requests", "Requests in line now.").labels()
LEASED = metrics.gauge("catena_run_leased_slots", "Leases running now.").labels()
OPEN = metrics.gauge("catena_run_open_sessions", "Sessions loaded now.").labels()
MEMORY = metrics.gauge("catena_run_session_bytes", "Memory that loaded sessions say they take.").labels()
REFUSED = metrics.counter("catena_run_refused_total", "Requests turned away from a full queue.").labels()


class SessionStatus(Struct, frozen=True):
    """One loaded session; `idle_s` is 0 while it is leased.

    `unload_in_s` is how long it stays if nobody uses it meanwhile, None for as long as its memory is not needed.
    """

    model: str
    digest: str
    engine: str
    device: str
    memory_bytes: int
    slots: int
    active: int
    waiting: int
    idle_s: float
    context_tokens: int
    unload_in_s: float | None


class Status(Struct, frozen=True):
    """The sessions loaded now, and how many requests wait over all."""

    sessions: tuple[SessionStatus, ...]
    queue: int
    queue_limit: int
