"""What sealing costs: the archive of answers with a vault beside the same archive without, on an assistant's own mix.

A conversation of an assistant: each turn finds the answer before it, keeps its own with everything asked so far, now
and then looks at the newest twenty, settles one that was computed in the background, deletes one. Sizes are log-normal,
and a turn carries what came before it: an answer has 1.0 kB at the median, a row 3.9 kB, the largest 21 kB. Both
archives do the same work in turns of 50 operations, so that a busy machine hits both; all writes are durable.

Usage: python bench/vault.py
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lab

from catena.core.errors import NotFoundError
from catena.core.settings import ReachSettings
from catena.reach.archive import Archive, Kept
from catena.reach.vault import SealedReader, SealedWriter, Vault, bind
from catena.store.database import Database

CONVERSATIONS, TURNS, SLICE, ROUNDS = 400, 8, 50, 5
OWNER = "ctn_0a1b2c3d"


def conversation(rng: random.Random, number: int) -> list[Kept]:
    """The answers of one conversation, each with all that was asked before it."""
    words = ["the", "of", "model", "and", "question", "answer", "这", "问题", "memory", "receipt", "so", "because"]
    asked, rows = "", []
    for turn in range(rng.randint(1, TURNS)):
        asked += " ".join(rng.choices(words, k=max(3, int(rng.lognormvariate(2.5, 1.0)))))
        answer = " ".join(rng.choices(words, k=max(5, int(rng.lognormvariate(5.1, 0.8)))))
        body = f'{{"id":"resp_{number}_{turn}","output":"{answer}"}}'.encode()
        frames = tuple(answer.encode()[at : at + 24] for at in range(0, len(answer), 24)) if turn % 8 == 7 else ()
        rows.append(Kept(f"resp_{number}_{turn}", OWNER, body, asked.encode(), frames))
        asked += answer
    return rows


def steps(rng: random.Random, conversations: list[list[Kept]]) -> list[tuple[str, Any]]:
    """The mix, as operations in order."""
    found: list[tuple[str, Any]] = []
    newest: list[str] = []
    for rows in conversations:
        for turn, kept in enumerate(rows):
            if turn:
                found.append(("read", rows[turn - 1].id))
            if rng.random() < 0.1:
                found.append(("insert", Kept(kept.id, kept.owner, b"{}", kept.asked, (), "open")))
                found.append(("settle", kept))
            else:
                found.append(("insert", kept))
            newest.append(kept.id)
            if rng.random() < 0.1:
                found.append(("list", newest[-20:]))
            if rng.random() < 0.02:
                found.append(("delete", newest.pop(rng.randrange(len(newest)))))
    return found


class Side:
    """One archive and the time it took, by operation: on the clock, and of the processor."""

    def __init__(self, folder: Path, vault: Vault | None) -> None:
        self.folder = folder
        self.archive = Archive(lambda: Database(folder / "responses.db"), keep_s=1e6, max_bytes=1 << 32, vault=vault)
        self.took: dict[str, list[tuple[float, float]]] = {}

    def run(self, kind: str, value: Any) -> None:
        archive = self.archive
        work: dict[str, Callable[[], Any]] = {
            "insert": lambda: archive._put(value),
            "settle": lambda: archive._settle(value),
            "read": lambda: archive._find(value, OWNER),
            "list": lambda: [archive._find(id, OWNER) for id in value],
            "delete": lambda: archive._remove(value, OWNER),
        }
        wall, cpu = time.perf_counter(), time.process_time()
        work[kind]()
        self.took.setdefault(kind, []).append((time.perf_counter() - wall, time.process_time() - cpu))


def mix(seed: int) -> tuple[dict[str, Any], int]:
    """One round over fresh archives."""
    rng = random.Random(seed)
    conversations = [conversation(rng, number) for number in range(CONVERSATIONS)]
    operations = steps(rng, conversations)
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
        folders = [Path(scratch, name) for name in ("plain", "sealed")]
        for folder in folders:
            folder.mkdir()
        vault = Vault.open(folders[1], ReachSettings())
        sides = [Side(folders[0], None), Side(folders[1], vault)]
        for start in range(0, len(operations), SLICE):
            order = sides if (start // SLICE) % 2 else sides[::-1]
            for side in order:
                for kind, value in operations[start : start + SLICE]:
                    side.run(kind, value)
        cold = _cold(sides, folders, vault, [row.id for rows in conversations for row in rows])
        sizes = [(folder / "responses.db").stat().st_size for folder in folders]
        for side in sides:
            side.archive.close()
        result = {"operations": len(operations), **_ratios(sides), "first_read_after_start": cold}
        result["file_size_ratio"] = round(sizes[1] / sizes[0], 3)
    return result, len(operations)


def _cold(sides: list[Side], folders: list[Path], vault: Vault, ids: list[str]) -> dict[str, float]:
    """Each answer read once by a process that has just opened everything: no item key is known yet."""
    vault.close()
    again = Vault.open(folders[1], ReachSettings())
    took = [0.0, 0.0]
    fresh = [Side(folders[0], None), Side(folders[1], again)]
    for number, id in enumerate(ids):
        for index in (0, 1) if number % 2 else (1, 0):
            cpu = time.perf_counter()
            with suppress(NotFoundError):  # deleted in both
                fresh[index].archive._find(id, OWNER)
            took[index] += time.perf_counter() - cpu
    for side in fresh:
        side.archive.close()
    again.close()
    return {"ratio": round(took[1] / took[0], 3), "sealed_us": round(took[1] / len(ids) * 1e6, 1)}


def _ratios(sides: list[Side]) -> dict[str, Any]:
    """For each operation and for all: the time sealed over the time plain."""
    plain, sealed = (side.took for side in sides)
    table: dict[str, Any] = {}
    for kind in plain:
        walls = [[wall for wall, _ in took[kind]] for took in (plain, sealed)]
        table[kind] = {
            "count": len(walls[0]),
            "plain_us": round(statistics.median(walls[0]) * 1e6, 1),
            "sealed_us": round(statistics.median(walls[1]) * 1e6, 1),
            "ratio": round(statistics.median(walls[1]) / statistics.median(walls[0]), 3),
        }
    for what, index in (("time", 0), ("processor_time", 1)):
        sums = [sum(pair[index] for pairs in took.values() for pair in pairs) for took in (plain, sealed)]
        table[f"mix_{what}_ratio"] = round(sums[1] / sums[0], 3)
    return table


def files() -> dict[str, Any]:
    """An upload of 64 MiB, written and read whole, beside the same without a vault."""
    data = random.Random(1).randbytes(1 << 20)
    took: dict[str, list[float]] = {name: [] for name in ("plain_write", "sealed_write", "plain_read", "sealed_read")}
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
        vault = Vault.open(Path(scratch), ReachSettings())
        for number in range(5):
            path = Path(scratch, f"f{number}")
            for name in ("plain", "sealed"):
                target = path.with_suffix(f".{name}")
                begun = time.process_time()
                with target.open("xb") if name == "plain" else SealedWriter(target, vault) as sink:
                    for _ in range(64):
                        sink.write(data)
                took[f"{name}_write"].append(time.process_time() - begun)
            bind(path.with_suffix(".sealed"), vault, "file", "x")
            for name, source in (
                ("plain", path.with_suffix(".plain").open("rb")),
                ("sealed", SealedReader(path.with_suffix(".sealed"), vault, "file", "x")),
            ):
                begun = time.process_time()
                with source:
                    while source.read(256 << 10):
                        pass
                took[f"{name}_read"].append(time.process_time() - begun)
        vault.close()
    return {f"{name}_mb_per_cpu_s": round(64 * 1.048576 / statistics.median(values)) for name, values in took.items()}


def main() -> None:
    rounds = [mix(seed)[0] for seed in range(ROUNDS)]
    middle = sorted(rounds, key=lambda found: found["mix_time_ratio"])[ROUNDS // 2]
    lab.save(
        "vault",
        {
            "mix_time_ratio_of_rounds": [found["mix_time_ratio"] for found in rounds],
            "mix_processor_time_ratio_of_rounds": [found["mix_processor_time_ratio"] for found in rounds],
            "middle_round": middle,
            "files": files(),
        },
    )


if __name__ == "__main__":
    main()
