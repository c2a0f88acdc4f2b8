"""Limits that Linux control groups set on this process: version 1, version 2, or both, each group along the path.

Interfaces: https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html,
https://docs.kernel.org/scheduler/sched-bwc.html. Files that are missing or unreadable set no limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# Version 1 writes "no limit" as the largest multiple of a page in 63 bits; anything near it means the same.
_UNLIMITED_BYTES = 1 << 62


class MemoryLimit(NamedTuple):
    """One group's limit, and what is left below it; pages of files that can be dropped at once count as left."""

    limit_bytes: int
    free_bytes: int


class Groups:
    """The groups of this process, as `/proc` and `/sys` below `root` tell of them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def cores(self) -> float | None:
        """CPU time that may be used per second of time, in cores: the least of all groups; None without a limit."""
        quotas = [quota for folder in self._folders("cpu") if (quota := _quota(folder)) is not None]
        return min(quotas, default=None)

    def memory(self) -> list[MemoryLimit]:
        """The limit of every group that has one."""
        return [limit for folder in self._folders("memory") if (limit := _memory(folder)) is not None]

    def _folders(self, controller: str) -> Iterator[Path]:
        """The folders of this process's groups that hold the files of `controller`, from the innermost outwards."""
        paths = self._paths()
        for mount in self._mounts():
            name = "" if mount.kind == "cgroup2" else controller
            if name not in paths or (name and controller not in mount.controllers):
                continue
            # Seen from inside a container, the mount may show only a part of the tree, or the path may lie outside it.
            path = PurePosixPath(paths[name])
            inner = path.relative_to(mount.top) if path.is_relative_to(mount.top) else PurePosixPath()
            base = self._root / mount.point.lstrip("/")
            for part in (inner, *inner.parents):
                if ".." not in part.parts:
                    yield base / part

    def _paths(self) -> dict[str, str]:
        """The path of this process's group, by controller of version 1, and under "" for version 2."""
        paths: dict[str, str] = {}
        for line in _text(self._root / "proc/self/cgroup").splitlines():
            _, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            for name in names.split(","):
                paths[name] = path
        return paths

    def _mounts(self) -> Iterator[_Mount]:
        for line in _text(self._root / "proc/self/mountinfo").splitlines():
            # Fields: proc_pid_mountinfo(5). Before the hyphen root and mount point, after it type, source, options.
            left, _, right = line.partition(" - ")
            before, after = left.split(), right.split()
            if len(before) >= 5 and len(after) >= 3 and after[0] in ("cgroup", "cgroup2"):
                yield _Mount(after[0], before[3], before[4], frozenset(after[2].split(",")))


class _Mount(NamedTuple):
    kind: str
    top: str
    point: str
    controllers: frozenset[str]


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = _number(words[0]), _number(words[-1]) if len(words) > 1 else None
    return quota / period if quota is not None and quota > 0 and period else None


def _memory(folder: Path) -> MemoryLimit | None:
    for limit_file, used_file, key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = _number(_text(folder / limit_file).strip())
        if limit is not None and limit < _UNLIMITED_BYTES:
            used = _number(_text(folder / used_file).strip()) or 0
            fields = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
            return MemoryLimit(limit, max(0, limit - used + (_number(fields.get(key, "")) or 0)))
    return None


def _number(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
