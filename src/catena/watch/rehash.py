"""Hashes the final files of a log again, on the cores this process owns, by the worker that `layout` is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from catena.watch import layout

# Below this many tiles (about 30 MB) starting a process takes longer than it saves.
MIN_TILES = 256


def digests(folder: Path, mode: Literal["flat", "root"], num_tiles: int) -> Iterator[bytes]:
    """`layout.MODES[mode]` of the tiles 0 … num_tiles - 1, in order; 32 zero bytes or less where a file is unusable."""
    num_workers = max(_num_cores() - (mode == "flat"), 1)
    if num_tiles < MIN_TILES or not sys.executable:
        for number in range(num_tiles):
            yield layout.digest(folder, mode, number)
        return
    command = [sys.executable, "-I", "-S", layout.__file__, str(folder), mode, str(num_tiles), str(num_workers)]
    workers = [subprocess.Popen([*command, str(first)], stdout=subprocess.PIPE) for first in range(num_workers)]  # noqa: S603
    try:
        for number in range(num_tiles):
            stdout = workers[number % num_workers].stdout
            yield stdout.read(layout.HASH_BYTES) if stdout else b""
    finally:
        for worker in workers:
            if worker.stdout:
                worker.stdout.close()
            worker.kill()
            worker.wait()


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
