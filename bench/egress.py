"""What left, against what a packet capture on loopback saw; and what receipts of it cost, prove and withstand.

`python bench/egress.py [--calls 400] [--records 1000000] [--tamperings 100000]`, as root: it captures packets.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import secrets
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import audit
import lab
import uvloop
from capture import Capture, application_bytes, requests_in

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from aiohttp import ClientRequest
from aiohttp.client_proto import ResponseHandler
from msgspec.structs import replace
from tests.providers.answers import Answer
from tests.providers.policy import open_gatekeeper
from tests.providers.server import provider
from tests.reach.cloud.test_tls import certificate

from catena.core.ids import new_id
from catena.core.messages import ChatRequest, Decision, Egress, Message, Text
from catena.core.settings import ProviderSettings, ReachSettings
from catena.reach.cloud import client as client_module
from catena.reach.cloud.client import Client
from catena.reach.cloud.departure import Way, hidden
from catena.reach.cloud.passage import Passage, remote_model
from catena.reach.egress.keeping import Shelf
from catena.reach.privacy.clearance import Asker
from catena.reach.ticket import Caller, Ticket, salted_digest
from catena.reach.vault import Vault
from catena.run.dialects.dialect import Outgoing
from catena.watch import departures, layout, verifier, writer
from catena.watch.keys import Signer
from catena.watch.log import AuditLog, AuditReader
from catena.watch.verification import verify
from catena.watch.writer import Writer

KEY = "sk-bench-0123456789abcdef"
POLICY = '[[rule]]\nname = "everything"\nthen = "remote"\n'


# --- calls through a real gateway -----------------------------------------------------------------------------------


def body(number: int, model: str, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A route and a request, of all sorts: small and large, streamed and whole, chats and vectors."""
    text = "水 and fire " * rng.choice((1, 3, 200, 20_000)) + str(number)
    if number % 5 == 4:
        return "/v1/embeddings", {"model": model, "input": [text[:2000], "b"]}
    chat: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    return "/v1/chat/completions", {**chat, "stream": number % 2 == 0}


async def call(port: int, route: str, content: dict[str, Any], leaves_early: bool) -> None:
    reader, writer_ = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(content).encode()
    head = f"POST {route} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer_.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
    await (reader.readline() if leaves_early else reader.read())
    writer_.close()


async def calls(port: int, num: int, rng: random.Random) -> None:
    turn = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with turn:
            await call(port, *body(number, ("plain/big", "safe/big")[number % 3 == 0], rng), number % 17 == 0)

    await asyncio.gather(*[one(number) for number in range(num)])


def tls(folder: Path) -> ssl.SSLContext:
    """A server's TLS for 127.0.0.1, of an authority whose certificate lies in `folder`/ca.pem."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(certificate("bench", "bench", root, root))
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (folder / "server.pem").write_bytes(private + certificate("127.0.0.1", "bench", key, root, "127.0.0.1"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


FAULTS = (
    Answer(),
    Answer(text=("one ",) * 200),
    Answer(status=500, code="server_error"),
    Answer(status=429),
    Answer(text=("a", "b", "c"), cut_after=2),
    Answer(closes_unanswered=True),
)


@contextmanager
def providers(folder: Path) -> Iterator[tuple[Any, Any]]:
    with provider("openai") as plain, provider("openai", tls(folder)) as safe:
        for made in (plain, safe):
            made.say(*[random.Random(number).choice((FAULTS[0], *FAULTS)) for number in range(5000)], Answer())
        yield plain, safe


def captured(num: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, providers(Path(name)) as (plain, safe):
        home = Path(name) / "home"
        home.mkdir()
        (home / "policy.toml").write_text(POLICY)
        tables = [
            f'[[reach.providers]]\nname = "{key}"\nkind = "openai"\nbase_url = "{made.url}"\n'
            f'key_env = "BENCH_KEY"\n{more}'
            for key, made, more in (
                ("plain", plain, "allow_plain_http = true\n"),
                ("safe", safe, f'ca_file = "{name}/ca.pem"\n'),
            )
        ]
        (home / "catena.toml").write_text('[reach]\nkeep_egress = "bytes"\n' + "".join(tables))
        capture = Capture({plain.port, safe.port})
        with lab.gateway(home=home, environ={"BENCH_KEY": KEY}) as running:
            asyncio.run(calls(int(running.url.rpartition(":")[2]), num, random.Random(7)))
            time.sleep(1.0)
        flows = capture.finish()
        return {"packets": capture.num_packets, **accounts(home, flows, plain.port, safe.port)}


def accounts(home: Path, flows: dict[tuple[int, int], bytes], plain: int, safe: int) -> dict[str, Any]:
    """The receipts against the capture."""
    signer, shelf = Signer.open(home), Shelf(home, Vault.open(home, ReachSettings()))
    reader = AuditReader.open(home / "audit")
    assert verify(home / "audit", signer.verifier_key).ok
    made = departures.every(reader)
    told = {
        each: [left for one in made for left in one.left if left.egress.host.endswith(f":{each}")]
        for each in (plain, safe)
    }
    waiting: dict[int, list[Any]] = {}
    for left in told[plain]:
        waiting.setdefault(left.egress.num_bytes, []).append(left)
    seen = matched = kept = 0
    for (_, port), stream in flows.items():
        if port != plain:
            continue
        for wire in requests_in(stream):
            seen += len(wire)
            for left in waiting.get(len(wire), []):
                salt = signer.salt(left.egress.receipt)
                shown = hidden(wire, (KEY,), lambda secret, salt=salt: salted_digest(salt, secret))
                if salted_digest(salt, shown) == left.egress.digest:
                    matched += len(wire)
                    kept += shelf.read(left.egress) == shown
                    waiting[len(wire)].remove(left)
                    break
    inside = [application_bytes(stream) for (_, port), stream in flows.items() if port == safe]
    back = sum(len(stream) for (port, _), stream in flows.items() if port == plain)
    ends = {
        port: sum(
            one.closed.received_bytes for one in made if one.closed and one.left[0].egress.host.endswith(f":{port}")
        )
        for port in (plain, safe)
    }
    certificates = {left.egress.certificate for left in told[safe]}
    recorded = {port: sum(left.egress.num_bytes for left in lefts) for port, lefts in told.items()}
    return {
        "calls": len(made),
        "outcomes": dict(Counter(one.closed.outcome for one in made if one.closed)),
        "plain_http": {
            "departures": len(told[plain]),
            "bytes_captured": seen,
            "bytes_matched_to_receipts": matched,
            "accounted": matched / seen,
            "receipts_whose_bytes_never_left": sum(len(each) for each in waiting.values()),
            "kept_copies_equal": kept,
            "bytes_back_captured": back,
            "bytes_back_recorded": ends[plain],
        },
        "tls": {
            "departures": len(told[safe]),
            "content_bytes_captured": sum(content for content, _ in inside),
            "content_bytes_recorded": recorded[safe],
            "handshake_and_framing_bytes": sum(other for _, other in inside),
            "connections": len(inside),
            "certificates": len(certificates - {None}),
        },
        "requests_with_missing_departures": sum(not one.is_complete for one in made),
    }


# --- tampering with records of what left ----------------------------------------------------------------------------


def egress(receipt: str, index: int, serial: int = 1) -> Egress:
    def digest(word: str) -> str:
        return "sha256:" + hashlib.sha256(f"{word}{receipt}{serial}".encode()).hexdigest()

    names = {"lookups": ("api.example.com",), "rules": ("open-questions",), "labels": ("internal",)}
    made = Egress(receipt, 1_795_000_000_500_000_000, index, serial, digest("wire"), 1234, "api.example.com", **names)
    way = {"address": "192.0.2.7:443", "certificate": digest("certificate"), "tls": "TLSv1.3"}
    return replace(made, policy=digest("policy"), substitutions={"person": 2, "phone": 1}, **way)


class Target(audit.Target):
    """A small real log like that of bench/audit.py, each of whose requests has a departure."""

    def __init__(self, home: Path) -> None:
        self.signer = Signer.open(home)
        self.folder = home / "audit"
        self.receipts = [new_id("rcpt") for _ in range(100)]
        log = Writer.open(self.folder, self.signer)
        for number in range(0, 100, 10):
            part = self.receipts[number : number + 10]
            indices = [int(str(each)) for each in log.commit([audit.stable_opened(receipt, False) for receipt in part])]
            log.commit([egress(receipt, index) for receipt, index in zip(part, indices, strict=True)])
            log.commit([audit.stable_closed(receipt, index) for receipt, index in zip(part, indices, strict=True)])
            if number == 80:
                log.turn_over()
        log.close()
        self.held = (self.folder / "checkpoint").read_text()
        self.files = {
            path.relative_to(self.folder).as_posix(): path.read_bytes() for path in audit.log_files(self.folder)
        }
        self.journal = next(name for name in self.files if name.startswith("journal"))
        self.bundles = [name for name in self.files if "entries" in name]


def changed_entries(entries: list[bytes], rng: random.Random) -> list[bytes]:
    """Something is done to records of what left, and to no others."""
    at = [number for number, entry in enumerate(entries) if entry.startswith(b'{"type":"egress"')]
    if not at:
        return entries
    one, kind = rng.choice(at), rng.randrange(6)
    entry = entries[one]
    if kind == 0:
        return audit.without(entries, one)
    if kind == 1:
        return audit.exchanged(entries, one, rng.choice(at))
    if kind == 2:
        return audit.repeated(entries, one)
    if kind == 3:
        words = ((b"api.example.com", b"api.example.org"), (b":1234,", b":1233,"), (b'"person":2', b'"person":1'),
                 (b'"internal"', b'"personal"'), (b'"serial":1', b'"serial":2'), (b"TLSv1.3", b"TLSv1.2"))  # fmt: skip
        return [*entries[:one], entry.replace(*rng.choice(words), 1), *entries[one + 1 :]]
    if kind == 4:
        place = rng.randrange(len(entry))
        entry = entry[:place] + bytes((entry[place] ^ 1 << rng.randrange(8),)) + entry[place + 1 :]
        return [*entries[:one], entry, *entries[one + 1 :]]
    return [*entries[: one + 1], entry.replace(b'"serial":1', b'"serial":2', 1), *entries[one + 1 :]]


def tampered(target: Target, rng: random.Random) -> audit.Change:
    """A careful attacker: checksums of the journal are made right, and half the time the tile of hashes too."""
    changed = audit.on_entries(target, rng, lambda entries: changed_entries(entries, rng))
    bundle, tile = layout.entries_path(0), layout.hash_path(0, 0)
    if bundle in changed and rng.random() < 0.5:
        changed[tile] = b"".join(layout.leaves(changed[bundle] or b""))
    return changed


def tampering(job: tuple[int, int]) -> tuple[Counter[str], list[str]]:
    seed, count = job
    os.fsync = writer._sync = lambda _: None
    rng, found, missed = random.Random(seed), Counter[str](), list[str]()
    audit.KINDS["egress"] = tampered
    with tempfile.TemporaryDirectory() as name:
        target = Target(Path(name))
        key = target.signer.verifier_key
        assert verify(target.folder, key, since=target.held).ok
        for number in range(count):
            how = audit.one(target, rng, "egress", key)
            found[how] += 1
            if how == "MISSED":
                missed.append(f"{seed}/{number}")
        assert verify(target.folder, key, since=target.held).ok, "false alarm"
    return found, missed


def tamperings(count: int) -> dict[str, Any]:
    jobs = [(seed, min(2000, count - seed * 2000)) for seed in range((count + 1999) // 2000)]
    found, missed = Counter[str](), list[str]()
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        for part, lost in pool.imap_unordered(tampering, jobs):
            found += part
            missed += lost
    return {"tried": found.total(), "missed": missed, "found": dict(found)}


# --- proofs ---------------------------------------------------------------------------------------------------------


def proofs(num_records: int, num_tampered: int) -> dict[str, Any]:
    """Size and time of proofs in a log of `num_records`, and random changes of their bytes."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        signer = Signer.open(home)
        log = Writer.open(home / "audit", signer)
        receipts: list[str] = []
        while log.view.size < num_records:
            batch = [new_id("rcpt") for _ in range(512)]
            indices = [int(str(index)) for index in log.commit([audit.opened(receipt) for receipt in batch])]
            log.commit([egress(receipt, index) for receipt, index in zip(batch, indices, strict=True)])
            log.commit([audit.closed(receipt, index) for receipt, index in zip(batch, indices, strict=True)])
            receipts += batch
            if len(log.view.entries) >= 4096:
                log.turn_over()
        log.close()
        reader, rng = AuditReader.open(home / "audit"), random.Random(3)
        lefts = [departures.one(reader, receipt) for receipt in rng.sample(receipts, 200)]
        made = [departures.prove(reader, left) for left in lefts]
        times: list[float] = []
        for proof in made * 5:
            start = time.process_time_ns()
            verifier.check_egress(proof, signer.verifier_key)
            times.append((time.process_time_ns() - start) / 1e6)
        entries = [len(reader.entry(left.index)) for left in lefts]
        told = [verifier.check_egress(proof, signer.verifier_key) for proof in made]
        held, other = 0, 0
        for number in range(num_tampered):
            at = number % len(made)
            found = _holds(_changed(made[at], rng), signer.verifier_key)
            held += found is not None
            other += found is not None and found != told[at]
        return {
            "records": log.view.size,
            "record_bytes": round(statistics.mean(entries)),
            "proof_bytes_mean": round(statistics.mean(map(len, made))),
            "proof_bytes_max": max(map(len, made)),
            "verify_cpu_ms_median": lab.median(times),
            "verify_cpu_ms_p99": round(sorted(times)[len(times) * 99 // 100], 4),
            "changed_proofs": num_tampered,
            "held_and_say_something_else": other,
            "held_and_say_the_same": held - other,
        }


def _changed(proof: bytes, rng: random.Random) -> bytes:
    data, kind = bytearray(proof), rng.randrange(4)
    at = rng.randrange(len(data))
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at : at + rng.randrange(1, 40)]
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.randrange(1, 40))
    else:  # with the checksum made right
        data[at % (len(data) - 8)] ^= 1 << rng.randrange(8)
        data[-8:] = hashlib.sha256(data[:-8]).digest()[:8]
    return bytes(data)


def _holds(proof: bytes, key: str) -> Any:
    try:
        return verifier.check_egress(proof, key)
    except verifier.Failed:
        return None


# --- what it costs --------------------------------------------------------------------------------------------------


class Idle:
    """A recorder that does nothing."""

    async def departing(self, way: Way, wire: bytes, credentials: Any) -> None: ...

    def looked_up(self, name: str, /) -> None: ...

    def returned(self, data: bytes, /) -> None: ...


def answering(ports: Any) -> None:
    """A process that answers every request with the same two bytes."""

    async def serve(reader: asyncio.StreamReader, writer_: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer_.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class BareWire(client_module._Wire):
    """A connection without a gate, as the library has it."""

    def connection_made(self, transport: Any) -> None:
        ResponseHandler.connection_made(self, transport)

    def data_received(self, data: bytes) -> None:
        self._is_answered = True
        ResponseHandler.data_received(self, data)


def bare(client: Client) -> None:
    """Let `client` speak without gates."""
    ours = client_module._Wire, client_module._Request
    client_module._Wire, client_module._Request = BareWire, ClientRequest  # type: ignore[misc,assignment]
    client._opened()
    client_module._Wire, client_module._Request = ours  # type: ignore[misc]


async def costs(port: int, clients: int, num: int, rounds: int) -> dict[str, Any]:
    """CPU time of a call with gate and record of what leaves, less that of one without, in turn.

    Both open and close their record, on uvloop as the gateway runs; so the difference is all that receipts add.
    """
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        signer = Signer.open(home)
        log = await AuditLog.open(home / "audit", signer)
        client = Client("far", f"http://127.0.0.1:{port}", ProviderSettings("far", "openai"))
        ungated = Client("far", f"http://127.0.0.1:{port}", ProviderSettings("far", "openai"))
        bare(ungated)
        model = remote_model("far", "openai", f"127.0.0.1:{port}", "big")
        decision = Decision("remote", "", model=model.name, model_digest=model.digest, host=model.host)
        clearance = (
            open_gatekeeper()
            .consider(ChatRequest("far/big", (Message("user", (Text("Hi"),)),)), Asker(), "far", "far/big")
            .clearance
        )
        assert clearance is not None
        outgoing = Outgoing("/v1/chat/completions", secrets.token_hex(500).encode())
        headers = {"authorization": f"Bearer {KEY}"}

        async def one(is_recorded: bool) -> None:
            ticket = await Ticket.open(log, signer, caller=Caller(), task="generate", decision=decision, question=b"q")
            recorder = Passage(ticket, model, clearance) if is_recorded else Idle()
            async with (client if is_recorded else ungated).ask(outgoing, headers, recorder, (KEY,)) as answer:
                await answer.body(9)
            await ticket.close("complete", answer=b"ok")

        async def some(is_recorded: bool) -> float:
            start = time.process_time()

            async def several() -> None:
                for _ in range(num // clients):
                    await one(is_recorded)

            await asyncio.gather(*[several() for _ in range(clients)])
            return (time.process_time() - start) / (num // clients * clients) * 1e3

        await some(True)
        await some(False)
        with_, without = list[float](), list[float]()
        for _ in range(rounds):
            without.append(await some(False))
            with_.append(await some(True))
        await client.close()
        await ungated.close()
        await log.close()
        return {
            "clients": clients,
            "cpu_ms_per_call_without": lab.median(without),
            "cpu_ms_per_call_with": lab.median(with_),
            "cpu_ms_overhead": lab.median([one - other for one, other in zip(with_, without, strict=True)]),
        }


def hook_cost() -> dict[str, Any]:
    """Nanoseconds that the guard adds to events that are not a socket's, and to a connection on loopback."""
    code = """
import sys, time, socket
from catena.reach.cloud import guard
def events():
    start = time.process_time_ns()
    for _ in range(200_000): sys.audit("bench.event", 1)
    return (time.process_time_ns() - start) / 200_000
def connects(there):
    start = time.process_time_ns()
    for _ in range(20_000): sys.audit("socket.connect", None, there)
    return (time.process_time_ns() - start) / 20_000
before = events(), connects(("127.0.0.1", 80))
guard.install()
print(round(events() - before[0]), round(connects(("127.0.0.1", 80)) - before[1]))
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    event, connect = map(int, done.stdout.split())
    return {"ns_per_event": event, "ns_per_connection": connect}


def costing(rounds: int) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=answering, args=(far,), daemon=True)
    process.start()
    port = near.recv()
    found = [uvloop.run(costs(port, clients, num, rounds)) for clients, num in ((1, 200), (16, 800), (64, 1600))]
    process.terminate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--tamperings", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="One part, and keep the others of the last result.")
    chosen = parser.parse_args()
    result: dict[str, Any] = {}
    last = lab.RESULTS / "egress.json"
    if chosen.only and last.exists():
        result = {name: part for name, part in json.loads(last.read_text()).items() if name != "machine"}
    for name, part in (
        ("costs", lambda: costing(chosen.rounds)),
        ("guard", hook_cost),
        ("capture", lambda: captured(chosen.calls)),
        ("proofs", lambda: proofs(chosen.records, chosen.tamperings)),
        ("tampering", lambda: tamperings(chosen.tamperings)),
    ):
        if chosen.only not in (None, name):
            continue
        result[name] = part()
        print(json.dumps({name: result[name]}), file=sys.stderr)
    lab.save("egress", result)


if __name__ == "__main__":
    main()
