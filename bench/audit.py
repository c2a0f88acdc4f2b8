"""The audit log's published numbers: appends per second, added latency, speed of verify, and tamperings found.

`python bench/audit.py [--records 1000000] [--tamperings 100000]`. Speeds of verify and of plain SHA-256 over the same
files are taken in turn within one run, so that their ratio holds also on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import lab

from catena.core.ids import new_id
from catena.core.messages import Closed, Decision, Opened, Timings, Usage
from catena.watch import journal, layout, notes, tiles, writer
from catena.watch.keys import Signer
from catena.watch.log import AuditLog
from catena.watch.verification import verify
from catena.watch.writer import Writer

DECISION = Decision(
    "local",
    "the only engines are on this machine; nothing may leave it",
    model="smollm2-135m-instruct",
    model_digest="sha256:" + "5a" * 32,
)


def opened(receipt: str) -> Opened:
    digest = "sha256:" + sha256(receipt.encode()).hexdigest()
    return Opened(receipt, time.time_ns(), "openai.chat", "local", "generate", DECISION, digest)


def closed(receipt: str, index: int) -> Closed:
    digest = "sha256:" + sha256(b"a" + receipt.encode()).hexdigest()
    usage, timings = Usage(33, 128), Timings(0.0012, 0.0, 0.123456, 1.23456)
    return Closed(
        receipt, time.time_ns(), index, "complete", digest, "llama_cpp", "cpu", usage, timings, ("stop",), 128
    )


# --- appending ------------------------------------------------------------------------------------------------------


async def appending(home: Path, clients: int, seconds: float) -> dict[str, Any]:
    """`clients` tasks that open and close requests without pause."""
    log = await AuditLog.open(home / "audit", Signer.open(home))
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            receipt = new_id("rcpt")
            start = time.perf_counter()
            index = await log.append(opened(receipt))
            waits.append(time.perf_counter() - start)
            await log.append(closed(receipt, index))

    start = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(clients)])
    took_s, num_syncs = time.perf_counter() - start, log.num_syncs
    await log.close()
    waits.sort()
    return {
        "clients": clients,
        "appends_per_s": round(2 * len(waits) / took_s),
        "records_per_sync": round(2 * len(waits) / num_syncs, 1),
        "append_p50_ms": round(waits[len(waits) // 2] * 1e3, 3),
        "append_p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 3),
    }


# --- verifying ------------------------------------------------------------------------------------------------------


def build(home: Path, num_records: int) -> Path:
    """A log of `num_records` entries, each request closed about 64 entries after it was opened."""
    log = Writer.open(home / "audit", Signer.open(home))
    waiting: list[tuple[str, int]] = []
    while log.view.size < num_records:
        closing = waiting[:512]
        del waiting[:512]
        receipts = [new_id("rcpt") for _ in range(512)]
        results = log.commit([*map(opened, receipts), *[closed(receipt, index) for receipt, index in closing]])
        waiting += [(receipt, index) for receipt, index in zip(receipts, results, strict=False) if type(index) is int]
        if len(log.view.entries) >= 4096:
            log.turn_over()
    log.commit([closed(receipt, index) for receipt, index in waiting])
    log.close()
    return home / "audit"


def log_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def plain(files: list[Path]) -> float:
    """Seconds to read and hash all files once, as one stream."""
    start, digest = time.perf_counter(), sha256()
    for path in files:
        digest.update(path.read_bytes())
    digest.digest()
    return time.perf_counter() - start


def per_record(folder: Path, num_tiles: int) -> float:
    """Seconds to hash each entry of the final bundles once, with one hashlib call each."""
    start = time.perf_counter()
    for number in range(num_tiles):
        layout.leaves((folder / layout.entries_path(number)).read_bytes())
    return time.perf_counter() - start


def verifying(num_records: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folder = build(home, num_records)
        key = Signer.open(home).verifier_key
        files = log_files(folder)
        num_bytes = sum(path.stat().st_size for path in files)
        times: dict[str, list[float]] = {"plain": [], "sealed": [], "per_record": [], "full": []}
        records = 0
        for _ in range(rounds):
            times["plain"].append(plain(files))
            start = time.perf_counter()
            verdict = verify(folder, key)
            times["sealed"].append(time.perf_counter() - start)
            assert verdict.ok and verdict.open == 0, verdict.problems[:3]
            records = verdict.records
            times["per_record"].append(per_record(folder, records // 256))
            start = time.perf_counter()
            assert verify(folder, key, is_full=True).ok
            times["full"].append(time.perf_counter() - start)
        middle = {name: statistics.median(values) for name, values in times.items()}
        return {
            "records": records,
            "megabytes": round(num_bytes / 1e6, 1),
            "seconds": {name: round(value, 3) for name, value in middle.items()},
            "verify_vs_one_pass_sha256": round(middle["plain"] / middle["sealed"], 3),
            "verify_vs_sha256_per_record": round(middle["per_record"] / middle["sealed"], 3),
            "full_vs_one_pass_sha256": round(middle["plain"] / middle["full"], 3),
            "full_vs_sha256_per_record": round(middle["per_record"] / middle["full"], 3),
            "records_per_s": round(records / middle["sealed"]),
        }


# --- tampering ------------------------------------------------------------------------------------------------------
# The attacker writes files as he likes. He has no key, except for the kind `fork`.

FRAME = struct.Struct(">4sIIII")


class Target:
    """A small real log, closed cleanly: one final tile, then a journal of a few batches, and a published checkpoint."""

    def __init__(self, home: Path) -> None:
        self.signer = Signer.open(home)
        self.folder = home / "audit"
        self.receipts = [new_id("rcpt") for _ in range(150)]
        grow(self.folder, self.signer, self.receipts)
        self.held = (self.folder / "checkpoint").read_text()
        self.files = {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in log_files(self.folder)}
        self.journal = next(name for name in self.files if name.startswith("journal"))
        self.bundles = [name for name in self.files if "entries" in name]

    def restore(self, changed: dict[str, bytes | None]) -> None:
        for name in changed:
            path = self.folder / name
            if name in self.files:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.files[name])
            else:
                path.unlink(missing_ok=True)


def grow(folder: Path, signer: Signer, receipts: list[str], change: int = -1) -> None:
    """Write a log of two entries per receipt; in a fork the entry `change` differs."""
    log = Writer.open(folder, signer)
    for number in range(0, len(receipts), 10):
        part = receipts[number : number + 10]
        results = log.commit([stable_opened(receipt, number == change) for receipt in part])
        log.commit([stable_closed(receipt, int(str(index))) for receipt, index in zip(part, results, strict=True)])
        if number == 120 or number == 130:
            log.turn_over()
    log.close()


def stable_opened(receipt: str, is_changed: bool) -> Opened:
    caller = "somebody" if is_changed else "local"
    return Opened(receipt, 1_795_000_000_000_000_000, "openai.chat", caller, "generate", DECISION, "sha256:" + "0" * 64)


def stable_closed(receipt: str, index: int) -> Closed:
    return Closed(receipt, 1_795_000_001_000_000_000, index, "complete", "sha256:" + "1" * 64)


Change = dict[str, bytes | None]


def edit(target: Target, rng: random.Random) -> Change:
    """Change bytes of a file, or a word within a record (with the checksums made right)."""
    if rng.random() < 0.3:
        return on_entries(target, rng, lambda entries: reword(entries, rng))
    name = rng.choice(list(target.files))
    data = bytearray(target.files[name])
    for _ in range(rng.choice((1, 1, 1, 4))):
        at = rng.randrange(len(data))
        data[at] = data[at] ^ 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(256)
    return {name: bytes(data)}


def reword(entries: list[bytes], rng: random.Random) -> list[bytes]:
    words = (
        (b"local", b"cloud"),
        (b"generate", b"retrieve"),
        (b"complete", b"canceled"),
        (b"000", b"001"),
        (b"1", b"2"),
    )
    at, (old, new) = rng.randrange(len(entries)), rng.choice(words)
    return [*entries[:at], entries[at].replace(old, new, 1), *entries[at + 1 :]]


def drop(target: Target, rng: random.Random) -> Change:
    """Take out an entry, a hash, a batch, or a whole file."""
    kind = rng.randrange(4)
    if kind == 0:
        return {rng.choice(list(target.files)): None}
    if kind == 1:
        name = rng.choice([name for name in target.files if name.startswith("tile/") and "entries" not in name])
        data, at = target.files[name], rng.randrange(len(target.files[name]) // 32) * 32
        return {name: data[:at] + data[at + 32 :]}
    if kind == 2:
        return on_frames(target, lambda frames: without(frames, rng.randrange(1, len(frames))))
    return on_entries(target, rng, lambda entries: without(entries, rng.randrange(len(entries))))


def swap(target: Target, rng: random.Random) -> Change:
    """Exchange two entries (in the bundle also their hashes), two batches, or two files."""
    kind = rng.randrange(4)
    if kind == 0:
        one, other = rng.sample(list(target.files), 2)
        return {one: target.files[other], other: target.files[one]}
    if kind == 1:
        return on_frames(target, lambda frames: exchanged(frames, *rng.sample(range(len(frames)), 2)))
    if kind == 2:
        one, other = rng.sample(range(256), 2)
        bundle, tile = layout.entries_path(0), layout.hash_path(0, 0)
        hashes = [target.files[tile][at : at + 32] for at in range(0, 8192, 32)]
        entries = exchanged(tiles.unpack(target.files[bundle]), one, other)
        return {bundle: tiles.pack(entries), tile: b"".join(exchanged(hashes, one, other))}
    return on_entries(target, rng, lambda entries: exchanged(entries, *rng.sample(range(len(entries)), 2)))


def insert(target: Target, rng: random.Random) -> Change:
    """Add a forged entry, a repeated one, loose bytes, a repeated batch, or a file."""
    kind = rng.randrange(5)
    if kind == 0:
        name = f"tile/{rng.choice(('0', '1', 'entries'))}/{rng.randrange(1000):03d}" + rng.choice(("", ".p/7", ".x"))
        return {name: rng.randbytes(64)} if name not in target.files else {}
    if kind == 1:
        name = rng.choice(list(target.files))
        data, at = target.files[name], rng.randrange(len(target.files[name]) + 1)
        return {name: data[:at] + rng.randbytes(rng.choice((1, 2, 32, 500))) + data[at:]}
    if kind == 2:
        return on_frames(target, lambda frames: repeated(frames, rng.randrange(1, len(frames))))

    def add(entries: list[bytes]) -> list[bytes]:
        at = rng.randrange(len(entries) + 1)
        forged = rng.choice(entries) if kind == 3 else json.dumps({"type": "open", "receipt": new_id("rcpt")}).encode()
        return [*entries[:at], forged, *entries[at:]]

    return on_entries(target, rng, add)


def truncate(target: Target, rng: random.Random) -> Change:
    """Cut a file short, or set the whole log back to an earlier batch, leaving no contradiction behind."""
    if rng.random() < 0.5:
        name = rng.choice(list(target.files))
        return {name: target.files[name][: rng.randrange(len(target.files[name]))]}
    frames = split(target.files[target.journal])
    kept = frames[: rng.randrange(2, len(frames))]
    note = journal.parse(b"".join(kept)).batches[-1].note
    changed: Change = {name: None for name in target.files if ".p/" in name and "tile/1/" not in name}
    changed |= {target.journal: b"".join(kept), "checkpoint": note.encode()}
    return changed | partials(kept, note)


def partials(frames: list[bytes], note: str) -> Change:
    """The partial tiles that a careful attacker leaves beside a log that he set back."""
    parsed = journal.parse(b"".join(frames))
    entries = [entry for batch in parsed.batches for entry in tiles.unpack(batch.bundle)]
    if notes.parse_checkpoint(note).size % 256 == 0:
        return {}
    hashes = b"".join(layout.leaves(tiles.pack(entries)))
    return {layout.entries_path(1, len(entries)): tiles.pack(entries), layout.hash_path(0, 1, len(entries)): hashes}


def on_entries(target: Target, rng: random.Random, change: Callable[[list[bytes]], list[bytes]]) -> Change:
    """Change the entries of a bundle, or of a batch in the journal with its checksums made right."""
    if rng.random() < 0.5:
        name = rng.choice(target.bundles)
        return {name: tiles.pack(change(tiles.unpack(target.files[name])))}
    frames = split(target.files[target.journal])
    at = rng.randrange(1, len(frames))
    _, length, note_bytes, _, _ = FRAME.unpack(frames[at][:20])
    bundle = frames[at][20 : 20 + length - note_bytes]
    if bundle:
        frames[at] = journal.batch_frame(tiles.pack(change(tiles.unpack(bundle))), frames[at][-note_bytes:].decode())
    return {target.journal: b"".join(frames)}


def on_frames(target: Target, change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return {target.journal: b"".join(change(split(target.files[target.journal])))}


def split(data: bytes) -> list[bytes]:
    """The frames of a journal."""
    frames, at = list[bytes](), 0
    while at < len(data):
        end = at + 20 + FRAME.unpack(data[at : at + 20])[1]
        frames.append(data[at:end])
        at = end
    return frames


def without(items: list[bytes], at: int) -> list[bytes]:
    return [*items[:at], *items[at + 1 :]]


def repeated(items: list[bytes], at: int) -> list[bytes]:
    return [*items[: at + 1], *items[at:]]


def exchanged(items: list[bytes], one: int, other: int) -> list[bytes]:
    items = items.copy()
    items[one], items[other] = items[other], items[one]
    return items


KINDS = {"edit": edit, "drop": drop, "swap": swap, "insert": insert, "truncate": truncate}


def tampering(job: tuple[int, int]) -> tuple[Counter[str], list[str]]:
    """`count` random tamperings with `seed`; how each was found, and what was missed."""
    seed, count = job
    # Many small logs are made here; that they survive a power cut is not what is being tried.
    os.fsync = writer._sync = lambda _: None
    rng, found, missed = random.Random(seed), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as name:
        target = Target(Path(name))
        key = target.signer.verifier_key
        assert verify(target.folder, key, since=target.held).ok
        for number in range(count):
            kind = ("edit", "drop", "swap", "insert", "truncate", "fork")[number % 6]
            how = forked(target, rng, number) if kind == "fork" else one(target, rng, kind, key)
            found[f"{kind}: {how}"] += 1
            if how == "MISSED":
                missed.append(f"{kind} {seed}/{number}")
            if number % 1000 == 0 and not verify(target.folder, key, since=target.held).ok:
                missed.append(f"false alarm {seed}/{number}")
    return found, missed


def one(target: Target, rng: random.Random, kind: str, key: str) -> str:
    changed: Change = {}
    while all(target.files.get(name) == data for name, data in changed.items()):
        changed = KINDS[kind](target, rng)
    for name, data in changed.items():
        path = target.folder / name
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    how = judged(target.folder, key, target.held)
    target.restore(changed)
    return how


def forked(target: Target, rng: random.Random, number: int) -> str:
    """Another history, complete and consistent: signed with the stolen key, or with a key of the attacker's own."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        is_stolen = number % 12 == 5
        signer = target.signer if is_stolen else Signer.open(home)
        # Small, since it is made anew each time; the held checkpoint is of this history's honest twin.
        count = rng.randrange(20, 60)
        receipts = target.receipts[:count]
        grow(home / "twin", target.signer, receipts)
        held = (home / "twin" / "checkpoint").read_text()
        grow(home / "audit", signer, receipts, change=rng.randrange(0, count, 10))
        return judged(home / "audit", target.signer.verifier_key, held)


def judged(folder: Path, key: str, held: str) -> str:
    verdict = verify(folder, key)
    if not verdict.ok:
        return "in place"
    if verdict.torn_bytes:
        return "in place, as bytes of no record"
    return "MISSED" if verify(folder, key, since=held).ok else "held checkpoint"


def tamperings(count: int) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    step = 2000
    jobs = [(seed, min(step, count - seed * step)) for seed in range((count + step - 1) // step)]
    found, missed = Counter[str](), list[str]()
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for part, lost in pool.imap_unordered(tampering, jobs):
            found += part
            missed += lost
    return {"tried": found.total(), "missed_or_false_alarm": missed, "found": dict(sorted(found.items()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tamperings", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    result: dict[str, Any] = {"appending": []}
    for clients in (1, 4, 64, 1024):
        with tempfile.TemporaryDirectory() as name:
            result["appending"].append(asyncio.run(appending(Path(name), clients, chosen.seconds)))
    print(json.dumps(result["appending"]), file=sys.stderr)
    result["verifying"] = verifying(chosen.records, chosen.rounds)
    print(json.dumps(result["verifying"]), file=sys.stderr)
    result["tampering"] = tamperings(chosen.tamperings)
    lab.save("audit", result)


if __name__ == "__main__":
    main()
