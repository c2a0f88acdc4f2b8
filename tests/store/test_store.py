"""Names lead to manifests, manifests to files, and nothing is used that is not what it was when it was stored."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import BusyError, ConflictError, InputError, IntegrityError, NotFoundError, ResourceError
from catena.core.ids import is_digest
from catena.core.settings import StoreSettings
from catena.store import Progress, Store
from catena.store.database import Database
from catena.watch.keys import Signer

Change = Callable[[Path, int], None]


def blob(store: Store, name: str) -> Path:
    return store.resolve(name).path("weights")


def test_a_stored_model_is_found_by_name_digest_and_prefix(store: Store, tiny: Path) -> None:
    pulled = store.pull(str(tiny))
    assert pulled.row.name == "tiny-model"
    assert is_digest(pulled.row.digest)
    model = store.resolve("tiny-model")
    assert model.path("weights").read_bytes() == tiny.read_bytes()
    letters = pulled.row.digest.removeprefix("sha256:")
    for name in (pulled.row.digest, letters, letters[:12], f"sha256:{letters[:20]}"):
        assert store.resolve(name) == model
    for name in (letters[:11], f"sha256:{letters[:13]}g", "sha256:", "../../etc/passwd", ""):
        with pytest.raises(NotFoundError):
            store.resolve(name)


def test_an_unknown_name_is_answered_with_those_that_are_near(store: Store, tiny: Path) -> None:
    store.pull(str(tiny), name="smollm2-tiny")
    with pytest.raises(NotFoundError) as caught:
        store.resolve("smollm-tiny")
    assert "smollm2-tiny" in caught.value.hint


def test_models_are_listed_by_name_with_what_their_header_says(store: Store, tiny: Path, encoder: Path) -> None:
    store.pull(str(tiny), name="b")
    store.pull(str(encoder), name="a")
    rows = store.models()
    assert [(row.name, row.manifest.task, row.manifest.format) for row in rows] == [
        ("a", "embed", "onnx"),
        ("b", "generate", "gguf"),
    ]
    assert rows[1].size_bytes == tiny.stat().st_size
    assert rows[0].manifest.facts["context_tokens"] == 256
    assert rows[1].manifest.chat_template_digest
    assert {entry.role for entry in rows[0].manifest.files} == {"weights", "tokenizer", "config"}


def test_an_unchanged_model_is_resolved_without_reading_it(
    store: Store, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pull(str(tiny), name="tiny")
    store.resolve("tiny")
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("the file was read"))
    assert store.resolve("tiny").name == "tiny"


def test_a_new_process_reads_the_samples_once(open_store: Callable[..., Store], large: Path) -> None:
    open_store().pull(str(large), name="large")
    again = open_store()
    read: list[int] = []
    real = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return real(descriptor, length, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", counted)
        again.resolve("large")
        num_bytes = sum(read)
        again.resolve("large")
    assert 0 < num_bytes < 300_000
    assert sum(read) == num_bytes


@pytest.mark.parametrize("place", [0, 1_000_000, 8_000_000])
def test_a_changed_byte_is_found_by_the_cheap_check_and_by_verify(
    store: Store, large: Path, change: Change, place: int
) -> None:
    digest = store.pull(str(large), name="large").row.digest
    change(blob(store, "large"), place)
    with pytest.raises(IntegrityError, match="written to"):
        store.resolve("large")
    with pytest.raises(IntegrityError):
        store.check_files(digest, is_full=False)
    with pytest.raises(IntegrityError, match="does not match its digest"):
        store.check_files(digest, is_full=True)
    with pytest.raises(IntegrityError):
        store.resolve("large")


def test_a_change_that_sets_its_time_back_is_found_by_samples_at_the_head_and_by_verify_anywhere(
    store: Store, large: Path, change: Change
) -> None:
    digest = store.pull(str(large), name="large").row.digest
    path = blob(store, "large")
    found = path.stat()
    change(path, 100)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(IntegrityError, match="sampled bytes"):
        store.resolve("large")
    change(path, 100)
    change(path, 5_000_001)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(IntegrityError, match="does not match its digest"):
        store.check_files(digest, is_full=True)


@pytest.mark.parametrize("damage", ["cut", "gone", "link", "grown", "folder"])
def test_a_file_that_is_not_the_stored_one_is_refused(store: Store, tiny: Path, tmp_path: Path, damage: str) -> None:
    digest = store.pull(str(tiny), name="tiny").row.digest
    path = blob(store, "tiny")
    data = path.read_bytes()
    path.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(data[:-1] if damage == "cut" else data + b"x")
    for is_full in (False, True):
        with pytest.raises(IntegrityError):
            store.check_files(digest, is_full=is_full)
    with pytest.raises(IntegrityError):
        store.resolve("tiny")


def test_a_touched_file_is_taken_back_into_use_by_verify(open_store: Callable[..., Store], tiny: Path) -> None:
    store = open_store()
    digest = store.pull(str(tiny), name="tiny").row.digest
    os.utime(blob(store, "tiny"))
    with pytest.raises(IntegrityError) as caught:
        store.resolve("tiny")
    assert "catena verify" in caught.value.hint
    store.check_files(digest, is_full=True)
    assert store.resolve("tiny").name == "tiny"
    assert open_store().resolve("tiny").name == "tiny"


def test_verify_tells_how_far_it_is(store: Store, large: Path) -> None:
    told: list[Progress] = []
    digest = store.pull(str(large), name="large").row.digest
    store.check_files(digest, is_full=True, progress=told.append)
    assert {step.phase for step in told} == {"check"}
    assert told[-1].done_bytes == told[-1].total_bytes == large.stat().st_size


def test_a_damaged_file_is_healed_by_pulling_it_again(store: Store, tiny: Path, change: Change) -> None:
    path = store.pull(str(tiny), name="tiny") and blob(store, "tiny")
    path.unlink()
    with pytest.raises(IntegrityError):
        store.resolve("tiny")
    again = store.pull(str(tiny), name="tiny")
    assert not again.is_new
    assert store.resolve("tiny").path("weights").read_bytes() == tiny.read_bytes()


TAMPERINGS = {
    "a byte of the manifest": "UPDATE manifests SET manifest = CAST(replace(manifest, 'apache', 'Apache') AS BLOB)",
    "the signature": "UPDATE manifests SET signature = zeroblob(64)",
    "a short signature": "UPDATE manifests SET signature = x'00'",
    "the key": "UPDATE manifests SET key = 'other+00000000+AAAA'",
    "not JSON": "UPDATE manifests SET manifest = x'7b'",
}


@pytest.mark.parametrize("case", TAMPERINGS)
def test_a_changed_manifest_is_refused_everywhere_and_healed_by_pulling_again(
    open_store: Callable[..., Store], home: Path, tiny: Path, case: str
) -> None:
    digest = open_store().pull(str(tiny), name="tiny").row.digest
    with sqlite3.connect(home / "catena.db") as connection:
        connection.execute(TAMPERINGS[case])
    connection.close()
    store = open_store()
    for use in (
        lambda: store.resolve("tiny"),
        lambda: store.manifest(digest),
        store.models,
        store.collect,
        lambda: store.check_files(digest, is_full=False),
    ):
        with pytest.raises(IntegrityError):
            use()
    store.pull(str(tiny), name="tiny")
    assert store.resolve("tiny").digest == digest


def test_a_name_cannot_be_turned_to_another_models_manifest(
    open_store: Callable[..., Store], home: Path, tiny: Path, large: Path
) -> None:
    open_store().pull(str(tiny), name="tiny")
    other = open_store().pull(str(large), name="large").row.digest
    with sqlite3.connect(home / "catena.db") as connection:
        connection.execute("UPDATE names SET digest = ? WHERE name = 'tiny'", (other,))
    connection.close()
    store = open_store()
    with pytest.raises(IntegrityError, match="another model"):
        store.resolve("tiny")
    with pytest.raises(IntegrityError, match="another model"):
        store.models()
    assert store.resolve("large").digest == other


def test_a_seal_that_this_machine_did_not_sign_is_none(
    open_store: Callable[..., Store], home: Path, large: Path
) -> None:
    digest = open_store().pull(str(large), name="large").row.digest
    with sqlite3.connect(home / "catena.db") as connection:
        connection.execute("UPDATE seals SET seal = CAST(replace(seal, 'bytes\":', 'bytes\":1') AS BLOB)")
    connection.close()
    store = open_store()
    with pytest.raises(IntegrityError, match="seal"):
        store.resolve("large")
    store.check_files(digest, is_full=True)
    assert store.resolve("large").digest == digest


def test_another_machines_key_does_not_pass(home: Path, tmp_path: Path, tiny: Path) -> None:
    store = Store.open(home, StoreSettings(), Signer.open(home))
    store.pull(str(tiny), name="tiny")
    store.close()
    other = Store.open(home, StoreSettings(), Signer.open(tmp_path / "other"))
    with pytest.raises(IntegrityError, match="another machine's key"):
        other.resolve("tiny")
    other.close()


def test_a_removed_name_leaves_files_until_they_are_collected_and_the_manifest_for_good(
    store: Store, tiny: Path, large: Path
) -> None:
    digest = store.pull(str(tiny), name="tiny").row.digest
    store.pull(str(large), name="large")
    path = blob(store, "tiny")
    assert store.remove("tiny").digest == digest
    assert path.exists()
    assert store.resolve(digest).name == "tiny"
    with pytest.raises(NotFoundError):
        store.remove("tiny")
    dry = store.collect(is_dry=True)
    assert (dry.num_files, dry.num_bytes) == (1, tiny.stat().st_size)
    assert path.exists()
    assert store.collect() == dry
    assert not path.exists()
    assert store.collect().num_files == 0
    assert store.manifest(digest).name == "tiny"
    for use in (lambda: store.resolve(digest), lambda: store.check_files(digest, is_full=True)):
        with pytest.raises(NotFoundError, match="removed"):
            use()
    store.check_files(store.resolve("large").digest, is_full=True)


def test_a_file_that_two_models_share_is_kept_while_one_needs_it(store: Store, tiny: Path) -> None:
    store.pull(str(tiny), name="one")
    second = store.pull(str(tiny), name="two")
    assert (second.how, second.bytes_stored, second.is_new) == ("present", 0, True)
    store.remove("one")
    assert store.collect().num_files == 0
    assert store.resolve("two").path("weights").exists()


def test_collect_leaves_what_is_not_its_own(store: Store, home: Path, tiny: Path) -> None:
    store.pull(str(tiny), name="tiny")
    stranger = home / "blobs" / "sha256" / "ab" / "notes.txt"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("mine")
    assert store.collect().num_files == 0
    assert stranger.exists()


def test_collect_waits_for_placing_and_gives_up_in_time(
    store: Store, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catena.store.blobs.GUARD_S", 0.1)
    with store._blobs.guard(is_alone=False), pytest.raises(BusyError):
        open_store().collect()


@pytest.mark.parametrize("name", ["", "a/b", "../up", "default", "Echo", "-x", "a b", "x" * 200, "naïve"])
def test_a_name_that_cannot_be_typed_or_means_something_else_is_refused(store: Store, tiny: Path, name: str) -> None:
    with pytest.raises(InputError):
        store.pull(str(tiny), name=name)


def test_a_name_in_use_by_other_files_is_not_taken_away(
    store: Store, tiny: Path, large: Path, drafts: Any, home: Path
) -> None:
    digest = store.pull(str(tiny), name="mine").row.digest
    with pytest.raises(ConflictError) as caught:
        store.pull(str(large), name="mine")
    assert "catena rm mine" in caught.value.hint
    assert store.resolve("mine").digest == digest
    assert drafts(home) == []


def test_the_same_model_pulled_twice_is_there_once(store: Store, tiny: Path) -> None:
    first = store.pull(str(tiny))
    second = store.pull(str(tiny))
    assert (first.is_new, second.is_new, second.how, second.bytes_stored) == (True, False, "present", 0)
    assert first.row == second.row


def test_a_manifest_digest_does_not_depend_on_machine_or_time(tmp_path: Path, tiny: Path) -> None:
    digests: set[str] = set()
    for folder in ("one", "two"):
        home = tmp_path / folder
        home.mkdir()
        other = Store.open(home, StoreSettings(), Signer.open(home))
        digests.add(other.pull(str(tiny)).row.digest)
        other.close()
        time.sleep(0.002)
    assert len(digests) == 1


def test_nothing_of_the_machine_gets_into_a_manifest(store: Store, tiny: Path, tmp_path: Path) -> None:
    row = store.pull(str(tiny)).row
    assert row.manifest.provenance.source == "file:Tiny Model.gguf"
    assert str(tmp_path) not in str(row)


def test_a_database_that_is_none_or_cannot_be_written_is_told_apart(tmp_path: Path, home: Path) -> None:
    (home / "catena.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(IntegrityError):
        Database(home / "catena.db")
    with pytest.raises(ResourceError):
        Database(tmp_path / "nowhere" / "catena.db")


def test_a_migration_runs_once_and_a_failed_one_leaves_nothing(home: Path) -> None:
    database = Database(home / "catena.db")
    for _ in range(2):
        database.migrate("one", "CREATE TABLE t (x INTEGER)", "INSERT INTO t VALUES (1)")
    assert database.read("SELECT x FROM t") == [(1,)]
    with pytest.raises(sqlite3.OperationalError):
        database.migrate("two", "INSERT INTO t VALUES (2)", "nonsense")
    assert database.read("SELECT x FROM t") == [(1,)]
    assert database.write("UPDATE t SET x = 5") == 1
    database.close()


def test_what_another_process_renames_or_removes_is_seen_at_once(open_store: Callable[..., Store], tiny: Path) -> None:
    reading, writing = open_store(), open_store()
    first = writing.pull(str(tiny)).row
    for _ in range(3):
        time.sleep(0.15)  # beyond the time in which the database looks unchanged
        assert [reading.resolve(first.name).digest for _ in range(3)] == [first.digest] * 3
        writing.remove(first.name)
        with pytest.raises(NotFoundError):
            reading.resolve(first.name)
        assert writing.pull(str(tiny)).row.digest == first.digest
        assert reading.resolve(first.name).digest == first.digest
