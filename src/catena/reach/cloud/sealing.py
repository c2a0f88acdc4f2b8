"""Seals this process and its children: the kernel lets none of them open a connection to anywhere any more.

Linux only. Landlock (kernel 6.7 and later, ABI 4: `LANDLOCK_ACCESS_NET_CONNECT_TCP` without a rule) refuses every TCP
connection; a seccomp filter refuses to make sockets for anything but TCP and the machine's own (so UDP, raw packets,
MPTCP, SCTP, virtual machines), and the two ways past both, TCP Fast Open and io_uring. Landlock knows ports, not
addresses, so loopback is refused too; serving, Unix sockets and socket pairs go on. Nothing can undo it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from catena.core.errors import UnsupportedError

LEAST_ABI = 4
_NET_CONNECT_TCP = 1 << 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_CREATE, _RESTRICT = 444, 446  # landlock_create_ruleset, landlock_restrict_self: the same on every architecture
_CREATE_VERSION = 1
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _IPPROTO_TCP, _MSG_FASTOPEN = 1, 6, 0x2000_0000
_X32 = 0x4000_0000
# BPF: load a word of seccomp_data, and, jump if equal, if at least, if any bit, return.
_LOAD, _AND, _EQUAL, _LEAST, _BITS, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _DENY = 0x7FFF_0000, 0x8000_0000, 0x0005_0000 | errno.EACCES
_NR_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16


class Calls(NamedTuple):
    """The numbers of system calls on one architecture, and its AUDIT_ARCH."""

    arch: int
    socket: int
    sendto: int
    sendmsg: int
    sendmmsg: int
    io_uring_setup: int


CALLS = {
    "x86_64": Calls(0xC000_003E, 41, 44, 46, 307, 425),
    "aarch64": Calls(0xC000_00B7, 198, 206, 211, 269, 425),
}


def lacking() -> str:
    """Why this machine cannot seal a process; "" if it can."""
    if sys.platform != "linux" or platform.machine() not in CALLS or sys.maxsize < 1 << 32:
        return f"sealing needs 64-bit Linux on x86-64 or ARM, and this is {sys.platform} on {platform.machine()}"
    abi = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), _CREATE_VERSION)
    if abi < LEAST_ABI:
        return f"sealing needs Landlock {LEAST_ABI} (Linux 6.7), and this kernel has {max(abi, 0) or 'none'}"
    return ""


def seal() -> None:
    """From now on nothing in this process, or that it starts, can connect anywhere. Raises UnsupportedError.

    To be called before there is a second thread: Landlock restricts the thread that asks and those that it starts.
    """
    if reason := lacking():
        raise UnsupportedError(reason, hint="leave --sealed out: without a provider Catena's own code sends nothing")
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise UnsupportedError("a process can only be sealed before it has threads")
    libc = _libc()
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    # handled_access_fs, handled_access_net
    ruleset = ctypes.create_string_buffer(struct.pack("=QQ", 0, _NET_CONNECT_TCP), 16)
    descriptor = _check(libc.syscall(_CREATE, ruleset, ctypes.c_size_t(16), 0), "landlock_create_ruleset")
    try:
        _check(libc.syscall(_RESTRICT, descriptor, 0), "landlock_restrict_self")
    finally:
        os.close(descriptor)
    code = program(CALLS[platform.machine()])
    steps = ctypes.create_string_buffer(code, len(code))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(steps)), 16)
    _check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0), "seccomp")


def program(calls: Calls) -> bytes:
    """The filter as BPF: 8 bytes a step. Jumps go forward to a label; `next` is the step after."""
    first, second, third, fourth = (_ARGUMENTS_AT + 8 * position for position in range(4))
    steps: list[tuple[str, int, int, str, str]] = [
        ("", _LOAD, _ARCH_AT, "", ""),
        ("", _EQUAL, calls.arch, "next", "kill"),
        ("", _LOAD, _NR_AT, "", ""),
        ("", _LEAST, _X32, "deny", "next"),
        ("", _EQUAL, calls.socket, "socket", "next"),
        ("", _EQUAL, calls.io_uring_setup, "deny", "next"),
        ("", _EQUAL, calls.sendto, "fourth", "next"),
        ("", _EQUAL, calls.sendmmsg, "fourth", "next"),
        ("", _EQUAL, calls.sendmsg, "third", "allow"),
        ("third", _LOAD, third, "", ""),
        ("", _BITS, _MSG_FASTOPEN, "deny", "allow"),
        ("fourth", _LOAD, fourth, "", ""),
        ("", _BITS, _MSG_FASTOPEN, "deny", "allow"),
        ("socket", _LOAD, first, "", ""),
        ("", _EQUAL, _AF_UNIX, "allow", "next"),
        ("", _EQUAL, _AF_NETLINK, "allow", "next"),
        ("", _EQUAL, _AF_INET, "stream", "next"),
        ("", _EQUAL, _AF_INET6, "stream", "deny"),
        ("stream", _LOAD, second, "", ""),
        ("", _AND, 0xF, "", ""),
        ("", _EQUAL, _SOCK_STREAM, "next", "deny"),
        ("", _LOAD, third, "", ""),
        ("", _EQUAL, 0, "allow", "next"),
        ("", _EQUAL, _IPPROTO_TCP, "allow", "deny"),
        ("allow", _RETURN, _ALLOW, "", ""),
        ("deny", _RETURN, _DENY, "", ""),
        ("kill", _RETURN, _KILL, "", ""),
    ]
    places = {label: number for number, (label, *_) in enumerate(steps) if label}
    packed: list[bytes] = []
    for number, (_, code, value, then, other) in enumerate(steps):
        jumps = [places.get(label, number + 1) - number - 1 for label in (then, other)]
        packed.append(struct.pack("=HBBI", code, *jumps, value))
    return b"".join(packed)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    """Raises UnsupportedError where the kernel refused: then nothing may be served as if it were sealed."""
    if result < 0:
        raise UnsupportedError(f"the kernel does not seal this process ({what}: {os.strerror(ctypes.get_errno())})")
    return result
