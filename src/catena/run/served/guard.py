"""Stands between Catena and a model server: starts it, ends it, and lets nothing of it outlive either of them.

A program by itself, which needs nothing but the standard library: `guard.py GRACE_S COMMAND…`. Its standard input is
the lifeline: one byte asks for a stop, for which the server has GRACE_S seconds; its end, because Catena died, kills at
once. When the server has ended, so has every process that it started; then the guard ends as the server did.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

# https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html and PR_SET_PDEATHSIG.2const.html
_SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
KILL_S = 8.0
_PAUSE_S = 0.01
_LIFELINE = 0


def main(grace_s: float, command: list[str]) -> NoReturn:
    """Run `command` until it ends or is to end; never returns."""
    _prctl(_SET_CHILD_SUBREAPER, 1)  # orphans of the server become children of this process
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    guard = os.getpid()

    def die_with_guard() -> None:
        _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)

    try:
        # This process has one thread, so code may run between fork and exec.
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_guard)  # noqa: PLW1509, S603
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)  # noqa: T201 - for the log
        os._exit(127)
    status = _watch(server.pid, wake, grace_s)
    status = _kill_all(server.pid, status)
    _end_as(status)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _watch(server: int, wake: int, grace_s: float) -> int | None:
    """Wait for the end of the server, of Catena, or of the time that a stop may take; the server's status if it has
    ended."""
    sources = [_LIFELINE, wake]
    deadline_s: float | None = None
    while True:
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        ready, _, _ = select.select(sources, [], [], left_s)
        ended = _reap()
        if server in ended:
            return ended[server]
        if deadline_s is not None and time.monotonic() >= deadline_s:
            return None
        is_told = False
        if wake in ready:
            is_told = any(number != signal.SIGCHLD for number in os.read(wake, 64))
        if _LIFELINE in ready:
            if not os.read(_LIFELINE, 1):
                return None
            is_told = True
        if is_told and deadline_s is None:
            deadline_s = time.monotonic() + grace_s
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGTERM)


def _reap() -> dict[int, int]:
    """The statuses of children that have ended, orphans of the server among them."""
    found: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            found[pid] = status
    return found


def _kill_all(server: int, status: int | None) -> int | None:
    """Kill whatever runs below this process, also what is started meanwhile; the server's status."""
    deadline_s = time.monotonic() + KILL_S
    while time.monotonic() < deadline_s:
        below = _below()
        for pid in below if below is not None else {server}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended = _reap()
        status = ended.get(server, status)
        if not below and status is not None:
            break
        time.sleep(_PAUSE_S)
    return status


def _below() -> set[int] | None:
    """Every process that descends from this one and has not ended; None where the system does not tell."""
    parents: dict[int, int] = {}
    try:
        names = [path.name for path in Path("/proc").iterdir() if path.name.isdecimal()]
    except FileNotFoundError:
        return None
    for name in names:
        try:
            # The name of the program stands in brackets and may hold anything.
            fields = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            parents[int(name)] = int(fields[1])
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _end_as(status: int | None) -> NoReturn:
    """End with the exit code, or by the signal, with which the server ended."""
    if status is None:
        os._exit(1)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
