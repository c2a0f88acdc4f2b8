"""From a fresh clone to the first answer: seconds per phase and bytes downloaded, with every cache and state empty.

Aim: a newcomer types `make run` and reads an answer within minutes. The clone is of what is committed, not of the
working tree. Bytes are counted twice: by pip's own log, and by what the network interfaces of the whole machine
received meanwhile. What pip takes from a wheel folder on this machine's own disk is in neither, and is counted apart.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import lab
import psutil

CHECKOUT = Path(__file__).parents[1]
# Name of the phase → what is typed. The answer includes pulling both embedded models and loading one.
PHASES = {
    "environment": ["make", ".venv/.ready"],
    "first_answer": ["make", "run", "ARGS=--once"],
    "second_answer": ["make", "run", "ARGS=--once"],
    "development": ["make", ".venv/.ready-dev"],
}
UNITS = {"bytes": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_FETCHED = re.compile(r"Downloading \S+ \(([\d.]+) (bytes|kB|MB|GB)\)")
_FROM_DISK = re.compile(r"Processing \S+\.whl")


def received_bytes() -> int:
    """Bytes that every interface but loopback has received since the machine started."""
    counters = psutil.net_io_counters(pernic=True)
    return sum(counter.bytes_recv for name, counter in counters.items() if name != "lo")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def fetched(log: Path) -> tuple[float, int]:
    """Bytes that pip says it downloaded (to three digits), and how many wheels it took from this machine's disk."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return sum(float(size) * UNITS[unit] for size, unit in _FETCHED.findall(text)), len(_FROM_DISK.findall(text))


def clean_environ(scratch: Path) -> dict[str, str]:
    """This environment without its state and caches: each lies in `scratch` and is empty."""
    ours = ("CATENA_", "VIRTUAL_ENV", "PYTHONPATH", "MAKE", "MFLAGS")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    caches = {"CATENA_HOME": "home", "PIP_CACHE_DIR": "pip", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data"}
    return environ | {name: str(scratch / folder) for name, folder in caches.items()}


def phase(name: str, clone: Path, environ: dict[str, str]) -> dict[str, Any]:
    """Type the command of a phase in `clone`; what it prints goes to the terminal."""
    log = clone.parent / f"{name}.log"
    before, start = received_bytes(), time.perf_counter()
    environ = {**environ, "PIP_LOG": str(log)}
    done = subprocess.run(PHASES[name], cwd=clone, env=environ, stdin=subprocess.DEVNULL, check=False)
    seconds, received = time.perf_counter() - start, received_bytes() - before
    if done.returncode:
        raise SystemExit(f"{name}: {' '.join(PHASES[name])} ended with {done.returncode}")
    downloaded, num_from_disk = fetched(log)
    return {
        "s": round(seconds, 1),
        "downloaded_mb": round(downloaded / 1e6, 1),
        "wheels_from_disk": num_from_disk,
        "machine_received_mb": round(received / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES), help="only these, unsaved")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catena-setup-") as folder:
        scratch = Path(folder)
        clone = scratch / "clone"
        subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
        environ = clean_environ(scratch)
        phases = {name: phase(name, clone, environ) for name in options.phases}
        result = {
            "phases": phases,
            "clone_to_first_answer_s": round(sum(phases[name]["s"] for name in list(phases)[:2]), 1),
            "environment_mb": round(folder_bytes(clone / ".venv") / 1e6, 1),
            "state_mb": round(folder_bytes(scratch / "home") / 1e6, 1),
        }
    if options.phases == list(PHASES):
        lab.save("setup", result)
    else:
        print(result)


if __name__ == "__main__":
    main()
