"""Kept answers: for one key, for their time, within their bound, and really gone when deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import NotFoundError
from catena.reach.archive import Archive, Kept
from catena.store.database import Database

pytestmark = pytest.mark.anyio
SECRET = b"the very secret words of somebody"


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


class Room:
    """A file of answers, opened any number of times."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "responses.db"
        self.clock = Clock()
        self.archives: list[Archive] = []

    def open(self, **bounds: Any) -> Archive:
        merged: dict[str, Any] = {"keep_s": 60, "max_bytes": 1 << 20, **bounds}
        self.archives.append(Archive(lambda: Database(self.path), clock_ns=self.clock, **merged))
        return self.archives[-1]

    def bytes_on_disk(self) -> bytes:
        """Everything in the file and the journals beside it."""
        return b"".join(path.read_bytes() for path in self.path.parent.glob("responses.db*"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    found = Room(tmp_path)
    yield found
    for archive in found.archives:
        archive.close()


def answer(id: str, owner: str = "me", body: bytes = b"{}", **rest: Any) -> Kept:
    return Kept(id, owner, body, b"[]", **rest)


async def test_an_answer_comes_back_as_it_was_put(room: Room) -> None:
    archive = room.open()
    kept = answer("a", body=b'{"x":1}', frames=(b"one", b"two"))
    await archive.put(kept)
    assert await archive.find("a", "me") == kept
    assert await room.open().find("a", "me") == kept


async def test_only_its_owner_finds_or_deletes_it(room: Room) -> None:
    archive = room.open()
    await archive.put(answer("a"))
    for act in (archive.find, archive.remove):
        with pytest.raises(NotFoundError):
            await act("a", "you")
    assert (await archive.find("a", "me")).id == "a"


async def test_an_end_takes_the_place_of_a_beginning(room: Room) -> None:
    archive = room.open()
    await archive.put(answer("a", state="open"))
    await archive.settle(answer("a", body=b"[1]", frames=(b"x",)))
    assert await archive.find("a", "me") == answer("a", body=b"[1]", frames=(b"x",))


async def test_an_end_does_not_bring_back_what_was_deleted(room: Room) -> None:
    archive = room.open()
    await archive.put(answer("a", state="open"))
    await archive.remove("a", "me")
    await archive.settle(answer("a"))
    with pytest.raises(NotFoundError):
        await archive.find("a", "me")


async def test_an_answer_past_its_time_is_not_found_and_is_swept_away(room: Room) -> None:
    archive = room.open(keep_s=10)
    await archive.put(answer("a", body=SECRET))
    room.clock.now_ns += 10_000_000_000
    await archive.put(answer("b"))
    with pytest.raises(NotFoundError):
        await archive.find("a", "me")
    assert SECRET in room.bytes_on_disk()
    assert await archive.sweep() == 1
    assert SECRET not in room.bytes_on_disk()
    assert (await archive.find("b", "me")).id == "b"


async def test_what_is_deleted_is_nowhere_on_the_disk(room: Room) -> None:
    archive = room.open()
    for number in range(20):
        await archive.put(answer(f"other{number}", body=b"filler" * 500))
    await archive.put(answer("a", body=SECRET * 300))
    assert SECRET in room.bytes_on_disk()
    await archive.remove("a", "me")
    assert SECRET not in room.bytes_on_disk()


async def test_of_each_owner_the_newest_that_fit_are_kept(room: Room) -> None:
    archive = room.open(max_bytes=2500)
    for number in range(5):
        await archive.put(answer(f"mine{number}", body=b"x" * 1000))
    await archive.put(answer("yours", "you", body=b"x" * 1000))
    found: list[str] = []
    for number in range(5):
        try:
            found.append((await archive.find(f"mine{number}", "me")).id)
        except NotFoundError:
            continue
    assert found == ["mine3", "mine4"]
    assert (await archive.find("yours", "you")).id == "yours"


async def test_the_newest_and_what_is_being_made_are_kept_however_large(room: Room) -> None:
    archive = room.open(max_bytes=10)
    await archive.put(answer("open", body=b"x" * 100, state="open"))
    await archive.put(answer("large", body=b"x" * 100))
    assert (await archive.find("open", "me")).state == "open"
    assert (await archive.find("large", "me")).id == "large"


async def test_what_was_open_when_a_process_died_is_lost(room: Room) -> None:
    first = room.open()
    await first.put(answer("open", state="open"))
    await first.put(answer("done"))
    second = room.open()
    second.recover()
    assert (await second.find("open", "me")).state == "lost"
    assert (await second.find("done", "me")).state == "done"


async def test_nothing_is_made_on_disk_before_the_first_answer(room: Room) -> None:
    archive = room.open()
    assert await archive.sweep() == 0
    archive.close()
    assert not room.path.exists()


async def test_the_file_is_for_its_owner_alone(room: Room) -> None:
    await room.open().put(answer("a"))
    assert room.path.stat().st_mode & 0o777 == 0o600


async def test_room_is_made_at_once_for_many_more(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = room.open(max_bytes=20_000)
    looked: list[str] = []
    count = archive._count

    def counted(owner: str) -> int:
        looked.append(owner)
        return count(owner)

    monkeypatch.setattr(archive, "_count", counted)
    for number in range(100):
        await archive.put(answer(f"a{number:03}", body=b"x" * 200))
    with closing(Database(room.path)) as database:
        rows = database.read("SELECT count(*), sum(size_bytes) FROM answers")
    assert rows[0][1] <= 20_000
    assert rows[0][0] > 80
    assert len(looked) < 10
