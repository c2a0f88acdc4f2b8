"""What a crash or a refusing disk leaves behind: no acknowledged record is lost, and nothing is answered unrecorded."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import AuditError, IntegrityError
from catena.watch import journal
from catena.watch import writer as writer_module
from catena.watch.keys import Signer
from catena.watch.log import AuditLog, AuditReader
from catena.watch.verification import verify
from catena.watch.writer import Writer

Grow = Callable[..., Path]


def last_journal(folder: Path) -> Path:
    return journal.find(folder)[0][1]


def test_a_journal_cut_at_any_byte_of_its_last_batch_loses_that_batch_only(
    tmp_path: Path, signer: Signer, records: Any
) -> None:
    writer = Writer.open(tmp_path / "audit", signer)
    writer.commit([records.opened(number) for number in range(3)])
    path = last_journal(tmp_path / "audit")
    kept = path.stat().st_size
    writer.commit([records.opened(3), records.opened(4)])
    writer.release()
    data = path.read_bytes()
    for end in range(kept, len(data)):
        for tail in (b"", bytes(64)):
            path.write_bytes(data[:end] + tail)
            reader = AuditReader.open(tmp_path / "audit")
            assert (reader.size, reader.num_open) == (3, 3)
    path.write_bytes(data[: len(data) - 1])
    again = Writer.open(tmp_path / "audit", signer)
    assert again.num_repaired_bytes == len(data) - 1 - kept
    assert again.view.size == 3 + 3  # the three that were left open are closed as lost
    again.close()
    assert verify(tmp_path / "audit", signer.verifier_key).ok


def test_a_crash_while_the_log_is_being_born_is_no_tampering(tmp_path: Path, signer: Signer) -> None:
    folder = tmp_path / "audit"
    Writer.open(folder, signer).close()
    last_journal(folder).unlink()
    assert AuditReader.open(folder).size == 0
    assert verify(folder, signer.verifier_key).ok
    Writer.open(folder, signer).close()
    assert verify(folder, signer.verifier_key).ok and last_journal(folder).exists()


def test_damage_before_the_last_batch_is_no_crash_and_is_never_cut_away(grow: Grow, signer: Signer) -> None:
    path = last_journal(grow(4, step=1, is_closed=False))
    data = path.read_bytes()
    rng = random.Random(1)
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(IntegrityError):
            Writer.open(path.parent, signer)
        assert path.read_bytes() == changed


def test_a_log_cut_below_its_published_checkpoint_is_refused(grow: Grow, signer: Signer) -> None:
    folder = grow(4, step=1)
    path = last_journal(folder)
    parsed = journal.parse(path.read_bytes())
    batch = parsed.batches[-1]
    path.write_bytes(path.read_bytes()[: -len(journal.batch_frame(batch.bundle, batch.note))])
    with pytest.raises(IntegrityError, match="published with 8"):
        Writer.open(folder, signer)


@pytest.mark.parametrize("what", ["journal", "checkpoint", "tile/0/000"])
def test_a_log_that_lost_a_file_is_refused(grow: Grow, signer: Signer, what: str) -> None:
    folder = grow(150)
    (last_journal(folder) if what == "journal" else folder / what).unlink()
    with pytest.raises(IntegrityError):
        Writer.open(folder, signer)


def test_another_machines_key_does_not_continue_the_log(grow: Grow, tmp_path: Path) -> None:
    folder = grow(4)
    with pytest.raises(IntegrityError, match="not signed by"):
        Writer.open(folder, Signer.open(tmp_path / "other"))


@pytest.mark.parametrize("step", ["_place", "_sync_folders", "_start_journal", "unlink"])
def test_a_crash_while_turning_over_loses_nothing(
    grow: Grow, signer: Signer, records: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = grow(200, is_closed=False)
    writer = Writer.open(folder, signer)
    calls = 0

    def fail(*_: Any, **__: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1 or step not in ("_place", "unlink"):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path if step == "unlink" else Writer, step, fail)
        if step == "unlink":
            calls = 1
        with pytest.raises(OSError, match="Input/output"):
            writer.turn_over()
    writer.release()  # as a kill would
    assert verify(folder, signer.verifier_key).ok
    again = Writer.open(folder, signer)
    assert again.view.size == 400
    again.close()
    verdict = verify(folder, signer.verifier_key, is_full=True)
    assert (verdict.ok, verdict.records) == (True, 400), verdict.problems


CHILD = """
import asyncio, sys
from pathlib import Path
from catena.core.ids import new_id
from catena.core.messages import Closed, Decision, Opened
from catena.watch import log as module
from catena.watch.keys import Signer
module.TURN_OVER_RECORDS = 512
module.PUBLISH_BUSY_S = 0.02
async def main():
    home = Path(sys.argv[1])
    log = await module.AuditLog.open(home / "audit", Signer.open(home), batch_records=32)
    async def client():
        while True:
            receipt = new_id("rcpt")
            index = await log.append(Opened(receipt, 1, "t", "local", "generate", Decision("local", "r"), "d"))
            print("o", receipt, index, flush=True)
            await log.append(Closed(receipt, 2, index, "complete"))
            print("c", receipt, flush=True)
    await asyncio.gather(*[client() for _ in range(16)])
asyncio.run(main())
"""


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path, signer: Signer) -> None:
    rng = random.Random(7)
    acknowledged: dict[str, int] = {}
    complete: set[str] = set()
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(rng.randrange(300, 1200)):
            note(child.stdout.readline(), acknowledged, complete)
        child.send_signal(signal.SIGKILL)
        for line in child.stdout.read().splitlines():
            note(line, acknowledged, complete)
        child.stdout.close()
        child.wait(10)
        verdict = verify(tmp_path / "audit", signer.verifier_key)
        assert verdict.ok, verdict.problems
    Writer.open(tmp_path / "audit", signer).close()
    reader = AuditReader.open(tmp_path / "audit")
    rows = {row.opened.receipt: row for row in reader.recent(10**6)}
    assert {receipt: rows[receipt].opened_index for receipt in acknowledged} == acknowledged
    assert {receipt for receipt in complete if rows[receipt].closed.outcome != "complete"} == set()
    assert {row.closed.outcome for row in rows.values() if row.closed} == {"complete", "lost"}
    assert verify(tmp_path / "audit", signer.verifier_key, is_full=True).open == 0


def note(line: str, acknowledged: dict[str, int], complete: set[str]) -> None:
    match line.split():
        case ["o", receipt, index] if len(receipt) == 31:
            acknowledged[receipt] = int(index)
        case ["c", receipt] if len(receipt) == 31:
            complete.add(receipt)


def test_a_full_disk_stops_answers_and_gives_way_when_space_returns(
    tmp_path: Path, signer: Signer, records: Any
) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        await log.append(records.opened(0))
        size = last_journal(tmp_path / "audit").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
            for number in (1, 2):
                with pytest.raises(AuditError, match="cannot be written"):
                    await log.append(records.opened(number))
            assert last_journal(tmp_path / "audit").stat().st_size == size
            assert (log.size, log.num_open) == (1, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert await log.append(records.opened(1)) == 1
        await log.close()

    asyncio.run(main())
    assert verify(tmp_path / "audit", signer.verifier_key).records == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["_sync", "_write_at"])
def test_after_a_failed_write_or_sync_nothing_unsure_is_kept(
    tmp_path: Path, signer: Signer, records: Any, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    writer = Writer.open(tmp_path / "audit", signer)
    writer.commit([records.opened(0)])
    inode = last_journal(tmp_path / "audit").stat().st_ino

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(writer_module, call, fail)
        with pytest.raises(AuditError, match="cannot be written"):
            writer.commit([records.opened(1), records.closed(0, 0)])
    assert (writer.view.size, writer.view.num_open) == (1, 1)
    assert writer.commit([records.closed(0, 0), records.opened(1)]) == [1, 2]
    is_new_file = last_journal(tmp_path / "audit").stat().st_ino != inode
    assert is_new_file == (call == "_sync")  # the page cache of a file whose sync failed is not trusted again
    writer.close()
    verdict = verify(tmp_path / "audit", signer.verifier_key)
    assert (verdict.ok, verdict.records, verdict.open) == (True, 3, 1), verdict.problems


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path, signer: Signer) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="cannot be written") as caught:
        Writer.open(tmp_path / "file" / "audit", signer)
    assert "no record, no answer" in caught.value.hint
