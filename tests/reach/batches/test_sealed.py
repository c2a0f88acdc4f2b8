"""Files and batches in a vault: nothing of them lies on the disk in the clear, through all their life and any kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from catena.core.errors import IntegrityError, NotFoundError
from catena.core.settings import ReachSettings
from catena.reach.access import Access, Identity
from catena.reach.batches import Answered, Batches, Counts, Files, Runner
from catena.reach.batches.batches import Batch
from catena.reach.batches.journal import OUTPUT, Entry, Journal, counted, lines
from catena.reach.sealing import scrub_once
from catena.reach.vault import Vault
from catena.store.database import Database

pytestmark = pytest.mark.anyio
URL = "/v1/chat/completions"
SECRET = "the very secret words"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Desk:
    """Files and batches of one state folder, in a vault or, as earlier versions had it, without one."""

    def __init__(self, home: Path, *, is_sealed: bool = True) -> None:
        self.home = home
        self.vault = Vault.open(home, ReachSettings()) if is_sealed else None
        self.table = Database(home / "catena.db")
        self.files = Files(self.table, home / "files", max_files=9, max_bytes=1 << 20, vault=self.vault)
        self.batches = Batches(self.table, home / "batches", vault=self.vault)
        self.runner = Runner(self.batches, self.files, Access(self.table), ReachSettings())
        self.runner.recover()
        if is_sealed:
            scrub_once(self.table)

    def close(self) -> None:
        self.table.close()
        if self.vault is not None:
            self.vault.close()

    def leave(self, text: str) -> str:
        draft = self.files.make_folder() / "draft"
        sink = self.files.create(draft)
        sink.write(text.encode())
        sink.close()
        return self.files.adopt(draft, "local", f"{SECRET}.jsonl", "batch", None).id

    def add(self, file_id: str) -> Batch:
        return self.batches.add(
            "local", URL, file_id, completion_window="x", window_s=60, output_keep_s=None, metadata={"a": SECRET}
        )

    def read(self, id: str) -> str:
        with self.files.open(self.files.find(id, "local")) as source:
            return source.read().decode()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def request(number: int) -> str:
    return json.dumps({"custom_id": f"{SECRET} {number}", "method": "POST", "url": URL, "body": {"x": SECRET}})


async def test_a_batch_runs_to_its_end_and_nothing_of_it_is_ever_in_the_clear(desk: Desk) -> None:
    looked: list[bool] = []

    async def ask(path: str, body: bytes, identity: Identity) -> Answered:
        looked.append(SECRET.encode() in on_disk(desk.home))
        assert json.loads(body) == {"x": SECRET}
        status = 400 if len(looked) == 3 else 200
        return Answered(status, {"catena-receipt": "rcpt_1"}, json.dumps({"text": SECRET}).encode())

    batch = desk.add(desk.leave("\n".join(request(number) for number in range(5))))
    async with anyio.create_task_group() as group:
        group.start_soon(desk.runner.run, ask)
        while desk.batches.find(batch.id, "local").is_open:  # noqa: ASYNC110 - it is another's work
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    found = desk.batches.find(batch.id, "local")
    assert (found.counts, found.metadata) == (Counts(5, 4, 1), {"a": SECRET})
    assert found.output_file_id
    assert found.error_file_id
    assert [json.loads(line)["response"]["body"] for line in desk.read(found.output_file_id).splitlines()] == [
        {"text": SECRET}
    ] * 4
    assert len(desk.read(found.error_file_id).splitlines()) == 1
    assert len(looked) == 5
    assert not any(looked)
    assert SECRET.encode() not in on_disk(desk.home)
    assert [file.filename for file in desk.files.each()].count(f"{SECRET}.jsonl") == 1


def test_what_was_left_in_the_clear_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    old = Desk(tmp_path, is_sealed=False)
    file_id = old.leave(SECRET * 9000)
    batch = old.add(file_id)
    gone = old.add(file_id)
    old.table.write("DELETE FROM batches WHERE id = ?", (gone.id,))
    old.batches.advance(batch.id, ("validating",), "in_progress", counts=Counts(3))
    with old.batches.journal(batch) as journal:
        journal.append([Entry("a", json.dumps({"custom_id": "a", "x": SECRET}).encode(), is_error=False)])
    old.close()
    assert SECRET.encode() in on_disk(tmp_path)
    for _ in range(2):
        new = Desk(tmp_path)
        assert new.read(file_id) == SECRET * 9000
        assert new.files.find(file_id, "local").filename == f"{SECRET}.jsonl"
        with new.batches.journal(new.batches.find(batch.id, "local")) as journal:
            assert journal.done == {"a"}
        assert new.batches.find(batch.id, "local").metadata == {"a": SECRET}
        assert SECRET.encode() not in on_disk(tmp_path)
        new.close()


def test_files_that_changed_places_are_refused_and_states_cannot_be_set_back(desk: Desk) -> None:
    one, two = desk.leave("one"), desk.leave("two")
    path, other = desk.files.path(one), desk.files.path(two)
    copy = path.read_bytes()
    other.replace(path)
    with pytest.raises(IntegrityError):
        desk.files.open(desk.files.find(one, "local"))
    path.write_bytes(copy)
    batch = desk.add(one)
    [(state,)] = desk.table.read("SELECT state FROM batches")
    desk.batches.cancel(batch.id, "local")
    desk.table.write("UPDATE batches SET state = ?", (state,))
    with pytest.raises(NotFoundError):
        desk.batches.find(batch.id, "local")


def test_of_a_deleted_file_no_copy_can_be_read(desk: Desk) -> None:
    id = desk.leave("one")
    path, rows = desk.files.path(id), desk.table.read("SELECT * FROM files")
    copy = path.read_bytes()
    desk.files.remove(id, "local")
    path.write_bytes(copy)
    desk.table.write("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows[0])
    with pytest.raises(IntegrityError, match="is gone"):
        desk.files.open(desk.files.find(id, "local"))
    assert desk.files.find(id, "local").filename == ""


def test_a_journal_that_is_torn_or_tampered_with_goes_on_behind_its_last_right_line(desk: Desk) -> None:
    folder = desk.home / "batches" / "batch_x"
    entry: Any = lambda name: Entry(name, json.dumps({"custom_id": name}).encode(), is_error=False)  # noqa: E731
    with Journal(folder, 3, desk.vault) as journal:
        journal.append([entry("a"), entry("b"), entry("c")])
    whole = (folder / OUTPUT).read_bytes()
    ends = [place + 1 for place, letter in enumerate(whole) if letter == 10]
    for end in (0, 1, ends[0] - 1, ends[0], ends[1] + 5, len(whole)):
        (folder / OUTPUT).write_bytes(whole[:end])
        with Journal(folder, 3, desk.vault) as journal:
            assert journal.done == set("abc"[: sum(place <= end for place in ends)])
    (folder / OUTPUT).write_bytes(whole[: ends[0] + 30] + b"A" + whole[ends[0] + 31 :])
    with Journal(folder, 3, desk.vault) as journal:
        assert journal.done == {"a"}
        journal.append([entry("z")])
    assert [json.loads(line)["custom_id"] for line in lines(folder / OUTPUT, desk.vault)] == ["a", "z"]
    assert counted(folder, 3) == Counts(3, 2, 0)
    desk.batches.forget("batch_x")
    assert not folder.exists()
