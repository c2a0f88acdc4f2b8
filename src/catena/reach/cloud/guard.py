"""Refuses, at run time, every connection and look-up of this process that no open departure leads to.

An audit hook of the interpreter (PEP 578), which cannot be taken away again. It sees what Python's own sockets do, in
whatever library; code in C or Rust that opens sockets by itself passes it by, and so does a name that is given straight
to `connect`, which the interpreter looks up before it asks: `sealing` is for these. In doubt it refuses.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from catena.reach.cloud.departure import current

_TO = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_LOCAL = {"", "localhost", "localhost.localdomain", "ip6-localhost"}
# Names that a departure is having looked up now: the system's resolver is asked on threads without its context.
_asked: Counter[str] = Counter()
_lock = threading.Lock()
_is_on = False
num_refused = 0


class Guarded(PermissionError):
    """A connection or look-up that no open record leads to."""

    def __init__(self, event: str) -> None:
        super().__init__(errno.EACCES, f"{event}: nothing leaves this machine without an open record")


def install() -> None:
    """Guard this process from now on; again does nothing."""
    global _is_on  # noqa: PLW0603 - a hook is of the process
    if not _is_on:
        _is_on = True
        sys.addaudithook(_hook)


@contextmanager
def looking_up(name: str) -> Generator[None]:
    """Let the resolver be asked for `name` while the block lasts; `departure` has agreed to it."""
    name = name.lower()
    with _lock:
        _asked[name] += 1
    try:
        yield
    finally:
        with _lock:
            _asked[name] -= 1
            if not _asked[name]:
                del _asked[name]


def _hook(event: str, found: tuple[Any, ...]) -> None:
    # Called for every event of the interpreter, so whatever is not a socket's is done with at once.
    if not event.startswith("socket."):
        return
    if event in _TO:
        if not _may_reach(found[1]):
            _refuse(event)
    elif event in _NAMES and not _may_look_up(found[0]):
        _refuse(event)


def _refuse(event: str) -> None:
    global num_refused  # noqa: PLW0603 - counted for tests and benches
    num_refused += 1
    raise Guarded(event)


def _may_reach(address: Any) -> bool:
    """`address` as sockets take it: a path, or host and port; None for a socket that is connected already."""
    if address is None or isinstance(address, str | bytes):
        return True
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
        # Netlink has numbers; raw packets, Bluetooth and virtual machines have forms of their own.
        return isinstance(address, tuple) and len(address) == 2 and all(isinstance(part, int) for part in address)
    host, port = address[0], address[1]
    if _is_local(host):
        return True
    departure = current()
    return departure is not None and isinstance(port, int) and departure.may_connect(host, port)


def _may_look_up(name: Any) -> bool:
    if name is None:
        return True
    if isinstance(name, bytes | bytearray):
        name = bytes(name).decode("ascii", "replace")
    if not isinstance(name, str):
        return False
    return _is_local(name) or _is_address(name) or name.lower() in _asked


def _is_local(host: str) -> bool:
    if host.startswith("127.") or host == "::1":
        return _is_address(host)
    return host.lower() in _LOCAL


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
