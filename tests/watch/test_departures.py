"""What left, in the audit log: an entry of an open request, found again, and proved in less than a kilobyte."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.watch.conftest import Records

from catena.core.errors import ConflictError, IntegrityError, NotFoundError
from catena.core.messages import Closed, Egress
from catena.watch import departures, notes, pairing, verifier
from catena.watch.keys import Signer
from catena.watch.log import AuditReader
from catena.watch.reader import Reading
from catena.watch.verification import verify
from catena.watch.writer import Writer


def egress(records: Records, number: int, index: int, serial: int = 1, **given: Any) -> Egress:
    made = Egress(
        records.receipt(number), 1_795_000_000_500_000_000, index, serial, digest(number), 700, "api.example.com"
    )
    return replace(made, certificate=digest("c"), tls="TLSv1.3", policy=digest("p"), rules=("open",), **given)


def digest(of: object) -> str:
    return "sha256:" + hashlib.sha256(repr(of).encode()).hexdigest()


def grown(tmp_path: Path, signer: Signer, records: Records, num: int = 300) -> Path:
    """A log of `num` requests, each with two departures, the last one open."""
    writer = Writer.open(tmp_path / "audit", signer)
    for number in range(num):
        start = writer.view.size
        batch = [records.opened(number), egress(records, number, start), egress(records, number, start, 2)]
        assert writer.commit(batch) == [start, start + 1, start + 2]
        if number < num - 1:
            writer.commit([replace(records.closed(number, start), departures=2, received_bytes=5)])
    writer.close()
    return tmp_path / "audit"


def test_departures_are_found_and_the_log_verifies(tmp_path: Path, signer: Signer, records: Records) -> None:
    folder = grown(tmp_path, signer, records)
    for is_full in (False, True):
        verdict = verify(folder, signer.verifier_key, is_full=is_full)
        assert (verdict.ok, verdict.open, verdict.records) == (True, 1, 300 * 4 - 1), verdict.problems
    reader = AuditReader.open(folder)
    found = departures.every(reader)
    assert [each.opened.receipt for each in found] == [records.receipt(number) for number in range(300)]
    assert all(each.is_complete and [left.egress.serial for left in each.left] == [1, 2] for each in found)
    assert departures.every(reader, since_ns=1_795_000_000_500_000_001) == []
    assert departures.of(reader, records.receipt(7)) == found[7] and found[-1].closed is None
    assert departures.one(reader, records.receipt(7)).egress.serial == 2
    with pytest.raises(NotFoundError, match="none numbered 3"):
        departures.one(reader, records.receipt(7), 3)
    assert reader.num_open == 1 and reader.recent(1)[0].opened.receipt == records.receipt(299)


def test_a_departure_that_is_missing_shows_in_the_count_of_the_closing_record(
    tmp_path: Path, signer: Signer, records: Records
) -> None:
    writer = Writer.open(tmp_path / "audit", signer)
    writer.commit([records.opened(1), egress(records, 1, 0), replace(records.closed(1, 0), departures=2)])
    writer.close()
    assert not departures.of(AuditReader.open(tmp_path / "audit"), records.receipt(1)).is_complete


def test_only_an_open_request_has_departures(tmp_path: Path, signer: Signer, records: Records) -> None:
    writer = Writer.open(tmp_path / "audit", signer)
    results = writer.commit([egress(records, 1, 0), records.opened(1), egress(records, 1, 5), records.closed(1, 0)])
    assert [type(result) for result in results] == [ConflictError, int, ConflictError, int]
    assert isinstance(writer.commit([egress(records, 1, 0)])[0], ConflictError)
    problems: list[tuple[str, int | None]] = []
    pairs = pairing.Pairs(lambda what, index: problems.append((what, index)))
    entries = [records.opened(1), egress(records, 1, 0), records.closed(1, 0), egress(records, 1, 0)]
    packed = b"".join(len(entry).to_bytes(2, "big") + entry for entry in map(pairing.encode, entries))
    pairs.add(packed, 0)
    assert problems == [("it says what left for a request that is not open there", 3)]


def test_a_killed_process_leaves_its_departures_and_the_request_is_closed_as_lost(
    tmp_path: Path, signer: Signer, records: Records
) -> None:
    writer = Writer.open(tmp_path / "audit", signer)
    writer.commit([records.opened(1), egress(records, 1, 0)])
    writer.release()
    Writer.open(tmp_path / "audit", signer).close()
    found = departures.of(AuditReader.open(tmp_path / "audit"), records.receipt(1))
    assert len(found.left) == 1 and isinstance(found.closed, Closed) and found.closed.outcome == "lost"
    assert found.is_complete and verify(tmp_path / "audit", signer.verifier_key).ok


class Million(Reading):
    """A log as if of 2^20 entries: the path of every entry has 20 hashes."""

    def __init__(self, reading: Reading, signer: Signer) -> None:
        super().__init__(reading.folder, reading._source)
        self._signer = signer

    def included(self, index: int) -> Any:
        found = super().included(index)
        path = [random.Random(row).randbytes(32) for row in range(20)]
        root = verifier.inclusion_root(verifier.leaf_hash(found.entry), index, 1 << 20, path)
        return found._replace(size=1 << 20, path=path, note=notes.sign_checkpoint(1 << 20, root, self._signer))


def test_a_proof_fits_in_a_kilobyte_and_no_bit_of_it_can_be_changed(
    tmp_path: Path, signer: Signer, records: Records
) -> None:
    reader = AuditReader.open(grown(tmp_path, signer, records, 40))
    left = departures.one(reader, records.receipt(20), 1)
    proof = departures.prove(Million(reader, signer), left)
    assert len(proof) <= 1024 and departures.check(proof, signer.verifier_key) == left.egress
    proof = departures.prove(reader, left, signer.salt(left.egress.receipt))
    assert departures.check(proof, signer.verifier_key) == left.egress
    for bit in range(8 * len(proof)):
        changed = bytearray(proof)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            departures.check(bytes(changed), signer.verifier_key)
    for length in range(len(proof)):
        with pytest.raises(IntegrityError):
            departures.check(proof[:length], signer.verifier_key)
    with pytest.raises(IntegrityError, match="not in a tree"):
        departures.check(proof, Signer.open(tmp_path / "other").verifier_key)


def test_a_hostile_proof_is_refused_before_it_is_large(signer: Signer) -> None:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, verifier.EGRESS_WORDS)
    packed = packing.compress(b"x" * (64 << 20)) + packing.flush()
    body = verifier.EGRESS_HEAD.pack(verifier.EGRESS_START, 0, 1, 0, 0) + b"s" * 64 + packed
    with pytest.raises(IntegrityError, match="malformed"):
        departures.check(body + hashlib.sha256(body).digest()[:8], signer.verifier_key)


def test_the_stand_alone_verifier_checks_record_and_bytes(tmp_path: Path, signer: Signer, records: Records) -> None:
    reader = AuditReader.open(grown(tmp_path, signer, records, 3))
    receipt, sent = records.receipt(1), b"POST / HTTP/1.1\r\n\r\nhello"
    salt = signer.salt(receipt)
    left = departures.one(reader, receipt)
    (tmp_path / "p").write_bytes(departures.prove(reader, left, salt))
    command = [sys.executable, verifier.__file__, str(tmp_path / "p"), "--key", str(tmp_path / "keys/verifier.vkey")]
    good = subprocess.run([*command, "--explain"], capture_output=True, text=True, check=True)
    assert good.stdout.startswith("verified\n")
    assert json.loads(good.stdout.partition("\n")[2])[0]["digest"] == left.egress.digest
    (tmp_path / "sent").write_bytes(sent)
    bad = subprocess.run([*command, "--sent", str(tmp_path / "sent")], capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and "not the bytes that were recorded" in bad.stderr
