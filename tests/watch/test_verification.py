"""Every kind of tampering is found, its place is told, and an untouched log raises no alarm."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catena.core.errors import IntegrityError
from catena.core.messages import Closed, Opened
from catena.watch import journal, layout, pairing, rehash, tiles
from catena.watch.keys import Signer
from catena.watch.verification import Verdict, verify
from catena.watch.writer import Writer

Grow = Callable[..., Path]
BUNDLE, TILE = "tile/entries/000", "tile/0/000"


@pytest.fixture
def log(grow: Grow) -> Path:
    """600 entries: two final tiles, a journal of 88 entries, a published checkpoint with partial tiles."""
    return grow(300)


PACK = tiles.pack


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    path.write_bytes(edit(path.read_bytes()))


def first_journal(folder: Path) -> Path:
    return journal.find(folder)[0][1]


def reworded(bundle: bytes) -> bytes:
    entries = tiles.unpack(bundle)
    entries[7] = entries[7].replace(b'"local"', b'"cloud"', 1).replace(b"complete", b"canceled")
    return PACK(entries)


def exchanged(bundle: bytes) -> bytes:
    entries = tiles.unpack(bundle)
    entries[3], entries[4] = entries[4], entries[3]
    return tiles.pack(entries)


TAMPERINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "an entry reworded": (BUNDLE, reworded),
    "two entries exchanged": (BUNDLE, exchanged),
    "an entry dropped": (BUNDLE, lambda data: tiles.pack(tiles.unpack(data)[1:])),
    "an entry inserted": (BUNDLE, lambda data: tiles.pack([tiles.unpack(data)[0], *tiles.unpack(data)])),
    "a bundle cut short": (BUNDLE, lambda data: data[:-5]),
    "a hash changed": (TILE, lambda data: bytes(32) + data[32:]),
    "a tile cut short": (TILE, lambda data: data[:-32]),
    "a partial bundle reworded": ("tile/entries/002.p/88", reworded),
    "a partial tile changed": ("tile/0/002.p/88", lambda data: data[:-1] + b"x"),
    "an upper tile changed": ("tile/1/000.p/2", lambda data: data[::-1]),
    "the checkpoint's size changed": ("checkpoint", lambda data: data.replace(b"\n600\n", b"\n601\n")),
    "the checkpoint emptied": ("checkpoint", lambda data: b""),
    "the checkpoint not text": ("checkpoint", lambda data: b"\xff" + data),
}


@pytest.mark.parametrize("is_full", [False, True], ids=["sealed", "full"])
def test_an_untouched_log_is_in_order(log: Path, signer: Signer, is_full: bool) -> None:
    verdict = verify(log, signer.verifier_key, is_full=is_full)
    assert verdict.ok and not verdict.problems
    assert (verdict.records, verdict.open, verdict.torn_bytes) == (600, 0, 0)
    assert verdict.checkpoint == (log / "checkpoint").read_text()
    assert verdict.root == verdict.checkpoint.split("\n")[2]


@pytest.mark.parametrize("is_full", [False, True], ids=["sealed", "full"])
@pytest.mark.parametrize("kind", TAMPERINGS)
def test_tampering_is_found_in_the_file_it_was_done_to(log: Path, signer: Signer, kind: str, is_full: bool) -> None:
    name, edit = TAMPERINGS[kind]
    change(log / name, edit)
    verdict = verify(log, signer.verifier_key, is_full=is_full)
    assert not verdict.ok
    assert {name, name.replace("tile/0/", "tile/entries/")} & {problem.file for problem in verdict.problems}


@pytest.mark.parametrize("is_full", [False, True], ids=["sealed", "full"])
def test_the_changed_entry_is_named(log: Path, signer: Signer, is_full: bool) -> None:
    change(log / BUNDLE, reworded)
    problems = verify(log, signer.verifier_key, is_full=is_full).problems
    assert {problem.index for problem in problems if problem.index is not None} == {7}


@pytest.mark.parametrize("name", [BUNDLE, TILE, "tile/entries/002.p/88", "tile/1/000.p/2", "checkpoint", "journal"])
def test_a_missing_file_is_found(log: Path, signer: Signer, name: str) -> None:
    (first_journal(log) if name == "journal" else log / name).unlink()
    assert not verify(log, signer.verifier_key).ok


@pytest.mark.parametrize("name", ["tile/entries/009", "tile/0/003.p/5", "tile/9/000", "tile/0/x", "tile/0/000.p/0"])
def test_a_file_that_does_not_belong_is_found(log: Path, signer: Signer, name: str) -> None:
    (log / name).parent.mkdir(parents=True, exist_ok=True)
    (log / name).write_bytes(bytes(32))
    assert name in {problem.file for problem in verify(log, signer.verifier_key).problems}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_found(log: Path, signer: Signer, data: st.DataObject) -> None:
    files = sorted(path for path in log.rglob("*") if path.is_file() and path.name != "lock")
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    at, mask = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(1, 255))
    try:
        path.write_bytes(original[:at] + bytes((original[at] ^ mask,)) + original[at + 1 :])
        assert not verify(log, signer.verifier_key).ok
    finally:
        path.write_bytes(original)
    assert verify(log, signer.verifier_key).ok


def test_a_journal_rewritten_with_right_checksums_is_found(log: Path, signer: Signer) -> None:
    path = first_journal(log)
    parsed = journal.parse(path.read_bytes())
    forged = [journal.batch_frame(reworded(batch.bundle), batch.note) for batch in parsed.batches]
    path.write_bytes(journal.head_frame(parsed.head) + b"".join(forged))
    problem = verify(log, signer.verifier_key).problems[0]
    assert problem.file == path.name and "do not lead to the signed root" in problem.what


def test_a_clean_rollback_shows_only_against_a_checkpoint_held_from_earlier(grow: Grow, signer: Signer) -> None:
    folder = grow(20)
    shutil.copytree(folder, folder.with_name("earlier"))
    grow(20)
    held = (folder / "checkpoint").read_text()
    assert verify(folder, signer.verifier_key, since=held).ok
    earlier = folder.with_name("earlier")
    assert verify(earlier, signer.verifier_key).ok
    problems = verify(earlier, signer.verifier_key, since=held).problems
    assert [problem.file for problem in problems] == ["the held checkpoint"]
    assert "cut back" in problems[0].what


def test_a_fork_shows_against_a_checkpoint_held_from_earlier(grow: Grow, signer: Signer, records: Any) -> None:
    held = (grow(20) / "checkpoint").read_text()
    other = grow(5, step=5, name="fork")
    grow(20, name="fork")
    assert verify(other, signer.verifier_key).ok
    assert "a fork" in verify(other, signer.verifier_key, since=held).problems[0].what


def test_a_key_holder_who_forges_a_seal_is_found_by_the_full_check(
    grow: Grow, signer: Signer, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = grow(100, is_closed=False)
    log = Writer.open(folder, signer)
    with monkeypatch.context() as patched:
        # The thief signs a seal over an entry that is not the one whose hash is in the tree.
        patched.setattr(
            tiles, "pack", lambda entries: reworded(PACK(entries)) if len(entries) == 256 else PACK(entries)
        )
        for number in range(1000, 1060):
            log.commit([records.opened(number)])
        log.close()
    assert not verify(folder, signer.verifier_key, is_full=True).ok


def test_another_key_verifies_nothing(log: Path, tmp_path: Path) -> None:
    verdict = verify(log, Signer.open(tmp_path / "other").verifier_key)
    assert not verdict.ok and "not signed by" in verdict.problems[0].what
    with pytest.raises(IntegrityError):
        verify(log, "nonsense")


def test_a_log_that_was_never_written_is_in_order(tmp_path: Path, signer: Signer) -> None:
    assert verify(tmp_path / "audit", signer.verifier_key) == Verdict(
        True, 0, 0, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", ""
    )


def test_worker_processes_and_this_process_hash_alike(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [[layout.digest(log, mode, number) for number in range(3)] for mode in ("flat", "root")]
    monkeypatch.setattr(rehash, "MIN_TILES", 1)
    assert [list(rehash.digests(log, "flat", 3)), list(rehash.digests(log, "root", 3))] == here
    assert here[0][2] == here[1][2] == bytes(32)  # there is no third full tile


def test_pairing_problems_are_told_with_their_entry(records: Any) -> None:
    def problems(*entries: Opened | Closed | bytes) -> list[tuple[str, int | None]]:
        found: list[tuple[str, int | None]] = []
        pairs = pairing.Pairs(lambda what, index: found.append((what, index)))
        pairs.add(tiles.pack([e if isinstance(e, bytes) else pairing.encode(e) for e in entries]), 0)
        pairs.finish()
        return found

    for length in range(1, 40):
        name = "r" * length
        pair = [Opened(name, 5, "d", "c", "t", records.opened(1).decision, "x"), Closed(name, 6, 0, "lost")]
        assert problems(*pair) == []
    odd = [Opened("short", 5, "d", "c", "t", records.opened(1).decision, "x"), Closed("short", 6, 0, "lost")]
    assert problems(records.opened(1), records.closed(1, 0)) == problems(*odd) == []
    not_open = "it closes a request that is not open there"
    assert problems(records.opened(1), records.closed(1, 0), records.closed(1, 0)) == [(not_open, 2)]
    assert problems(records.opened(1), records.closed(1, 1)) == problems(records.opened(1), records.closed(2, 0))
    short = b'{"type":"open","receipt":"r"}'
    assert problems(records.opened(1), records.closed(1, 0), short) == [("it neither opens nor closes a request", 2)]
    assert problems(b'{"type":"other"}' + b" " * 99) == [("it neither opens nor closes a request", 0)]
    assert "more than once" in problems(records.opened(1), records.closed(1, 0), records.opened(1))[0][0]
