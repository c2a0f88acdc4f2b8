"""Ten thousand canaries put in by every door are forgotten, killed half-way or not, and looked for in every byte.

Canaries come in through the official doors of a running gateway (answers with `store`, conversations, metadata,
uploads and their names, batches with their ids and answers, each in one of nine forms), and beside them into backups,
logs, archives, slot files and names of keys. Beside each lies something harmless, which must all survive. What looks
for them afterwards is none of Catena's code: it seeks the beginning that all canaries share, in each form, in every
file. A copy of the whole folder but `keys/vault`, taken before, must not open with what is left either.

Usage: python bench/forget.py [--canaries 10000] [--kills 40]
"""

from __future__ import annotations

import argparse
import base64
import gzip
import http.client
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import urllib.parse
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import lab

from catena.core.errors import CatenaError
from catena.core.settings import ReachSettings
from catena.reach.archive import Archive, Kept
from catena.reach.vault import SealedReader, Vault
from catena.store.database import Database

MARK, KEPT = "qzx7kcanary", "harmless4"
FORMS = ("plain", "upper", "wide", "base64", "hex", "url", "json", "utf16-base64", "zero-width")


def written(canary: str, form: str) -> str:
    """A canary as it is put in; what is not text itself goes in as text that holds it."""
    match form:
        case "upper":
            return canary.upper()
        case "wide":
            return canary.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
        case "base64":
            return "data " + base64.b64encode(b"x" * (len(canary) % 3) + canary.encode()).decode()
        case "hex":
            return "0" + canary.encode().hex()
        case "url":
            return urllib.parse.quote("?q=" + "".join(f"%{byte:02x}" for byte in canary.encode()))
        case "json":
            return json.dumps({"inner": json.dumps(["".join(f"\\u{ord(letter):04x}" for letter in canary)])})
        case "utf16-base64":
            return base64.b64encode(canary.encode("utf-16-le")).decode()
        case "zero-width":
            return "\u200b".join(canary)
    return canary


def traces() -> list[bytes]:
    """The beginning of every canary in the forms that it could lie in on the disk."""
    found: list[bytes] = []
    for text in {MARK, MARK.upper(), written(MARK, "wide"), written(MARK, "zero-width"), MARK.title()}:
        for data in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")):
            found += [data, data.hex().encode(), data.hex().upper().encode()]
            for shift in range(3):
                whole = base64.b64encode(b"\0" * shift + data)
                found.append(whole[-(-shift * 8 // 6) : len(whole) - (4 if (shift + len(data)) % 3 else 0)])
    found += ["".join(f"%{byte:02x}" for byte in MARK.encode()).encode()]
    found += ["".join(f"\\u{ord(letter):04x}" for letter in MARK).encode()]
    return [trace for trace in dict.fromkeys(found) if len(trace) >= 4]


def left_in(folder: Path) -> dict[str, int]:
    """How often a canary lies in any byte of any file, or in a name."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*"):
        for data in (path.read_bytes() if path.is_file() else b"", path.name.encode()):
            for view in {data, data.lower()}:
                for trace in TRACES:
                    if count := view.count(trace):
                        found[f"{path.relative_to(folder)}: {trace!r}"] += count
    return dict(found)


TRACES = traces()


class Door:
    """One connection to the gateway."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=120)

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        self._connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
        answer = self._connection.getresponse()
        raw = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {raw[:300]!r}")
        return json.loads(raw)

    def upload(self, name: str, data: bytes) -> str:
        head = (
            '--b0unda\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b0unda\r\n'
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        body = head.encode() + data + b"\r\n--b0unda--\r\n"
        kind = {"content-type": "multipart/form-data; boundary=b0unda"}
        return self.ask("POST", "/v1/files", body, kind)["id"]


class Filler:
    """Puts canaries into a state folder, and as many harmless things beside them."""

    def __init__(self, home: Path, canaries: list[str], chance: random.Random) -> None:
        self.home = home
        self.chance = chance
        self.left = list(canaries)
        self.put: Counter[str] = Counter()
        self.survivors: dict[str, list[str]] = {"answers": [], "files": [], "paths": []}
        self.number = 0

    def take(self, count: int, where: str) -> list[str]:
        taken, self.left = self.left[:count], self.left[count:]
        self.put[where] += len(taken)
        return taken

    def form(self, canary: str) -> str:
        self.number += 1
        return written(canary, FORMS[self.number % len(FORMS)])

    def doors(self, url: str) -> None:
        """Through the gateway: answers, conversations, uploads, batches."""
        with closing(Door(url)) as door:
            self._doors(door, len(self.left))

    def _doors(self, door: Door, total: int) -> None:
        for canary in self.take(total // 4, "answers"):
            text = f"please remember {self.form(canary)} for me"
            door.ask("POST", "/v1/responses", {"model": "echo", "input": text, "store": True})
        for canary in self.take(total // 20, "conversations and metadata"):
            first = door.ask("POST", "/v1/responses", {"model": "echo", "input": f"I am {canary}", "store": True})
            door.ask(
                "POST",
                "/v1/responses",
                {
                    "model": "echo",
                    "input": "and?",
                    "store": True,
                    "previous_response_id": first["id"],
                    "metadata": {"who": canary},
                },
            )
        for _ in range(100):
            made = door.ask("POST", "/v1/responses", {"model": "echo", "input": f"{KEPT} words", "store": True})
            self.survivors["answers"].append(made["id"])
        for number in range(20):
            lines = [
                f"{self.form(canary)} on line {line}" for line, canary in enumerate(self.take(total // 100, "uploads"))
            ]
            door.upload(f"notes {number}.txt", "\n".join(lines).encode())
            self.survivors["files"].append(door.upload(f"{KEPT} {number}.txt", f"{KEPT} content {number}".encode()))
        for canary in self.take(total // 100, "names of uploads"):
            door.upload(f"{canary}.jsonl", b"{}")
        self.batches(door, 10, total // 66)

    def batches(self, door: Door, count: int, num_lines: int) -> None:
        ids: list[str] = []
        for number in range(count + 2):
            is_kept = number >= count
            names = [f"{KEPT}{line}" for line in range(20)] if is_kept else self.take(num_lines, "batches")
            rows = [
                {
                    "custom_id": name if line % 2 else f"row {line}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {"model": "echo", "messages": [{"role": "user", "content": self.form(name)}]},
                }
                for line, name in enumerate(names)
            ]
            input_id = door.upload("in.jsonl", "\n".join(map(json.dumps, rows)).encode())
            meta = {"note": KEPT if is_kept else self.take(1, "metadata of batches")[0]}
            wish = {
                "input_file_id": input_id,
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": meta,
            }
            ids.append(door.ask("POST", "/v1/batches", wish)["id"])
        for id in ids:
            while (batch := door.ask("GET", f"/v1/batches/{id}"))["status"] not in ("completed", "failed"):
                time.sleep(0.05)
            assert batch["status"] == "completed", batch
        self.survivors["files"] += [batch["output_file_id"]]

    def storage(self) -> None:
        """Beside the doors: what backups, logs, engines and people leave in a state folder."""
        home = self.home
        for canary in self.take(3, "names of keys"):
            catena(home, "keys", "add", canary).communicate()
        rest = self.take(len(self.left), "storage level")
        for folder in ("backups/2026", "logs", "prompts/" + "a" * 64, "run/llama-x"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        parts = [rest[start::8] for start in range(8)]
        (home / "backups/notes.txt").write_text("\n".join(map(self.form, parts[0])))
        (home / "backups/notes.txt.gz").write_bytes(gzip.compress("\n".join(parts[1]).encode()))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/b.json", json.dumps(parts[2]))
        (home / "backups/2026/old.zip").write_bytes(packed.getvalue())
        with closing(sqlite3.connect(home / "backups/responses.db.bak")) as database, database:
            database.execute("CREATE TABLE answers (body BLOB)")
            database.executemany("INSERT INTO answers VALUES (?)", [(text.encode(),) for text in parts[3]])
        (home / "logs/gateway.log").write_text("\n".join(f"12:00 INFO {text}" for text in parts[4]), encoding="utf-16")
        (home / ("prompts/" + "a" * 64) / "slot.bin").write_bytes(os.urandom(9999) + "\n".join(parts[5]).encode())
        (home / "run/llama-x/slot0").write_bytes(os.urandom(5000) + "\n".join(parts[6]).encode("utf-16-le"))
        (home / "files/stray copy.txt").write_text("\n".join(parts[7]))
        (home / f"backups/{KEPT}.txt").write_text(f"{KEPT} notes")
        self.survivors["paths"].append(f"backups/{KEPT}.txt")


def catena(home: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*lab.CATENA, *words], env={**os.environ, "CATENA_HOME": str(home)}, text=True, stdout=subprocess.PIPE, **more
    )


def forget(home: Path, names: Path) -> tuple[dict[str, Any], float]:
    begun = time.perf_counter()
    process = catena(home, "forget", "--from", str(names), "--yes", "--json")
    out = process.communicate()[0]
    return json.loads(out), round(time.perf_counter() - begun, 2)


def lost(home: Path, survivors: dict[str, list[str]]) -> list[str]:
    """What should have stayed and did not, or cannot be read any more."""
    vault = Vault.open(home, ReachSettings())
    archive = Archive(lambda: Database(home / "responses.db"), keep_s=1e7, max_bytes=1 << 32, vault=vault)
    found = [path for path in survivors["paths"] if not (home / path).is_file()]
    for id in survivors["answers"]:
        try:
            assert KEPT.encode() in archive._find(id, "local").body
        except CatenaError:
            found.append(id)
    for id in survivors["files"]:
        try:
            with SealedReader(home / "files" / id, vault, "file", id) as source:
                assert KEPT.encode() in source.readall()
        except (CatenaError, OSError):
            found.append(id)
    archive.close()
    vault.close()
    return found


def opens_in_copy(copy: Path, home: Path) -> dict[str, int]:
    """Items of the copy that open with the keys that are left, and of those the ones that hold a canary."""
    shutil.rmtree(copy / "keys")
    shutil.copytree(home / "keys", copy / "keys")
    vault = Vault.open(copy, ReachSettings())
    archive = Archive(lambda: Database(copy / "responses.db"), keep_s=1e7, max_bytes=1 << 32, vault=vault)
    counts = Counter[str]()
    for one in archive.each():
        is_open = isinstance(one, Kept)
        counts["opened" if is_open else "closed"] += 1
        counts["opened with a canary"] += is_open and any(MARK.encode() in part for part in (one.body, one.asked))
    for path in (copy / "files").iterdir():
        if path.is_file() and path.read_bytes()[:4] == b"CVF1":
            try:
                with SealedReader(path, vault, "file", path.name) as source:
                    counts["opened with a canary"] += MARK.encode() in source.readall()
                counts["opened"] += 1
            except CatenaError:
                counts["closed"] += 1
    archive.close()
    vault.close()
    return dict(counts)


def fill(home: Path, url: str, count: int) -> tuple[Filler, Path, dict[str, int]]:
    """Put canaries everywhere; who did, the file of their names, and what lay in the clear after the doors alone."""
    chance = random.Random(count)
    canaries = [f"{MARK}-{chance.randbytes(9).hex()}" for _ in range(count)]
    names = home.with_name(f"{home.name}.txt")
    names.write_text("\n".join(canaries))
    filler = Filler(home, canaries, chance)
    filler.doors(url)
    clear = left_in(home)
    filler.storage()
    return filler, names, clear


def whole(scratch: Path, count: int) -> dict[str, Any]:
    """All canaries, forgotten beside a running gateway."""
    home, copy = scratch / "whole", scratch / "copy"
    with lab.gateway("--echo", home=home) as running:
        begun = time.perf_counter()
        filler, names, clear = fill(home, running.url, count)
        filled_s, before = round(time.perf_counter() - begun, 1), left_in(home)
        shutil.copytree(home, copy)
        report, took_s = forget(home, names)
        with closing(Door(running.url)) as door:
            door.ask("POST", "/v1/responses", {"model": "echo", "input": "still here", "store": True})
    after = left_in(home)
    return {
        "canaries": count,
        "put_in": dict(filler.put),
        "fill_s": filled_s,
        "traces_in_files_after_the_doors": sum(clear.values()),
        "traces_before": sum(before.values()),
        "forget_s": took_s,
        "report": {key: len(value) if isinstance(value, list) else value for key, value in report.items()},
        "traces_after": sum(after.values()),
        "found_after": list(after.items())[:5],
        "harmless_lost": lost(home, filler.survivors)[:5],
        "copy_from_before": opens_in_copy(copy, home),
    }


def killed(scratch: Path, count: int, rounds: int) -> dict[str, Any]:
    """Rounds of: a fresh copy of a filled folder, a forgetting that is killed, a resumption, a look at every byte."""
    base, chance = scratch / "base", random.Random(7)
    with lab.gateway("--echo", home=base) as running:
        filler, names, _ = fill(base, running.url, count)
    trial = scratch / "trial"
    shutil.copytree(base, trial)
    took_s = forget(trial, names)[1]
    outcomes: Counter[str] = Counter()
    problems: list[Any] = []
    for number in range(rounds):
        home = scratch / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(base, home)
        for _ in range(chance.randint(1, 2)):
            process = catena(home, "forget", "--from", str(names), "--yes", "--json", stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.3, 1.1 * took_s))
            outcomes["killed" if process.poll() is None else "ended before the kill"] += 1
            process.send_signal(signal.SIGKILL)
            process.communicate()
        is_begun, is_there = (home / "forgetting").exists(), bool(left_in(home))
        outcomes["resumed" if is_begun else "killed before its note" if is_there else "killed after its end"] += 1
        if not is_begun and is_there:
            forget(home, names)
        elif number % 2:
            with lab.gateway("--echo", home=home):
                pass
        else:
            catena(
                home, "forget", "--text", "something else entirely", "--yes", stderr=subprocess.DEVNULL
            ).communicate()
        found, gone = left_in(home), lost(home, filler.survivors)
        verified = "ok" in catena(home, "audit", "verify").communicate()[0]
        if found or gone or not verified or (home / "forgetting").exists():
            problems.append({"round": number, "found": found, "lost": gone, "log verifies": verified})
    told = {"canaries": count, "rounds": rounds, "undisturbed_s": took_s, **outcomes}
    return {**told, "rounds_with_a_problem": len(problems), "problems": problems[:3]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--canaries", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
        result = {"whole": whole(Path(scratch), given.canaries)}
        print(json.dumps(result, indent=1), flush=True)
        if given.kills:
            result["killed"] = killed(Path(scratch), max(1000, given.canaries // 8), given.kills)
    lab.save("forget", result)


if __name__ == "__main__":
    main()
