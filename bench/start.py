"""What it costs to be there: `--help` in CPU seconds and modules, time to ready, resident memory, installed size.

Aims: `--help` < 0.15 s of CPU, ready < 1.5 s, < 80 MB resident without a model.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
from collections import Counter
from importlib.metadata import distribution, distributions
from pathlib import Path
from typing import Any

import lab
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from catena.core import config


def help_cost(runs: int) -> dict[str, Any]:
    """User plus system seconds of whole `catena --help` processes, against a bare interpreter in the same run."""
    seconds: dict[str, list[float]] = {"catena": [], "python": []}
    for _ in range(runs):
        for name, command in (("catena", [*lab.CATENA, "--help"]), ("python", [sys.executable, "-c", "pass"])):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "cpu_s": lab.median(seconds["catena"]),
        "bare_python_cpu_s": lab.median(seconds["python"]),
        "modules": help_modules(),
    }


def help_modules() -> dict[str, int]:
    """How many modules of each package outside the standard library `catena --help` loads."""
    code = (
        "import sys; from catena.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    names = (line.split(".")[0] for line in done.stderr.splitlines())
    return dict(Counter(name for name in names if name not in sys.stdlib_module_names and not name.startswith("_")))


def installed_bytes() -> dict[str, int]:
    """Bytes on disk of Catena's own distribution and of the packages a default installation brings."""
    known = {canonicalize_name(dist.metadata["Name"]): dist for dist in distributions()}
    needed: set[str] = set()
    queue = [Requirement("catena[local]")]
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if name not in known or (name in needed and not wanted.extras):
            continue
        needed.add(name)
        for requirement in map(Requirement, known[name].requires or ()):
            extras = wanted.extras or {""}
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(requirement)
    sizes: dict[str, int] = {}
    for name in sorted(needed):
        files = known[name].files or ()
        sizes[name] = sum(Path(str(f.locate())).stat().st_size for f in files if Path(str(f.locate())).is_file())
    package = Path(str(distribution("catena").locate_file("")))
    source = package / "catena" if (package / "catena").is_dir() else Path(config.__file__).parent.parent
    sizes["catena"] = sum(p.stat().st_size for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    ready: list[float] = []
    idle = 0
    for _ in range(options.runs):
        with lab.gateway() as running:
            ready.append(running.ready_s)
            idle = lab.resident_bytes(running.process.pid)
    lab.pull_chat_model(config.open_home())
    with lab.gateway(home=config.home()) as running:
        body = {"model": "default", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
        answer = asyncio.run(lab.stream_chat(running.url, body))
        assert answer.status == 200, answer
        with_model = lab.resident_bytes(running.process.pid)
    sizes = installed_bytes()
    lab.save(
        "start",
        {
            "help": help_cost(options.runs),
            "time_to_ready_s": {"median": lab.median(ready), "max": round(max(ready), 3)},
            "first_answer_after_cold_load_s": round(answer.first_s, 3),
            "resident_mb": {"idle": round(idle / 1e6, 1), "after_an_answer": round(with_model / 1e6, 1)},
            "installed_mb": {
                "in_all": round(sum(sizes.values()) / 1e6, 1),
                "catena": round(sizes["catena"] / 1e6, 2),
                "largest": {
                    name: round(size / 1e6, 1) for name, size in sorted(sizes.items(), key=lambda x: -x[1])[:6]
                },
            },
            "cores": os.cpu_count(),
        },
    )


if __name__ == "__main__":
    main()
