"""Leases sessions of models: loaded once, shared in fair order, never closed in use, unloaded when idle or crowded out."""

from catena.run.scheduler.scheduler import Lease, Scheduler
from catena.run.scheduler.status import SessionStatus, Status

__all__ = ["Lease", "Scheduler", "SessionStatus", "Status"]
