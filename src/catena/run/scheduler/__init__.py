"""Leases sessions of models: loaded once, shared fairly, never closed in use, unloaded when idle or in the way."""

from catena.run.scheduler.scheduler import Lease, Scheduler
from catena.run.scheduler.status import SessionStatus, Status

__all__ = ["Lease", "Scheduler", "SessionStatus", "Status"]
