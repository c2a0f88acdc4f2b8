"""What was written is made durable: the content of a file, or the names in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Without the times of the file, which macOS always writes.
sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
