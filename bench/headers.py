"""What malformed model files can do: so many bent headers of every format, under a hard limit on memory.

python bench/headers.py [--count 100000]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import lab

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.store import bending

# On top of what the interpreter has mapped at the start; nothing that a header claims may need more.
LIMIT_BYTES = 128 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    count: int = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="catena-bench-", dir="/dev/shm") as scratch:
        bending.run(Path(scratch), 100, seed=0)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + LIMIT_BYTES, resource.RLIM_INFINITY))
        started = time.perf_counter()
        tally = bending.run(Path(scratch), count, seed=11)
        took_s = time.perf_counter() - started
    lab.save(
        "headers",
        {
            "bent_models": sum(tally.outcomes.values()),
            "outcomes": dict(sorted(tally.outcomes.items())),
            "slowest_ms": round(tally.slowest_s * 1e3, 1),
            "limit_mb": LIMIT_BYTES >> 20,
            "resident_growth_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024, 1),
            "seconds": round(took_s, 1),
        },
    )


if __name__ == "__main__":
    main()
