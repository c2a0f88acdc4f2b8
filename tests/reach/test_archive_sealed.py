"""Kept answers in a vault: never in the clear on the disk, never in another's place, and adopted from before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from catena.core.errors import IntegrityError, NotFoundError
from catena.core.settings import ReachSettings
from catena.reach.archive import Archive, Kept
from catena.reach.sealing import seal_answers
from catena.reach.vault import Vault
from catena.store.database import Database

pytestmark = pytest.mark.anyio
SECRET = b"the very secret words of somebody"
ANSWER = Kept("a", "me", SECRET + b" in the answer", SECRET + b" in the question", (SECRET, b"two"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    opened = Vault.open(tmp_path, ReachSettings())
    yield opened
    opened.close()


@pytest.fixture
def archive(tmp_path: Path, vault: Vault) -> Iterator[Archive]:
    opened = Archive(lambda: Database(tmp_path / "responses.db"), keep_s=60, max_bytes=1 << 20, vault=vault)
    yield opened
    opened.close()


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_nothing_of_an_answer_is_on_the_disk_in_the_clear(archive: Archive, tmp_path: Path) -> None:
    await archive.put(ANSWER)
    await archive.settle(ANSWER)
    assert await archive.find("a", "me") == ANSWER
    assert SECRET not in on_disk(tmp_path)
    archive.close()
    assert SECRET not in on_disk(tmp_path)


async def test_a_copy_of_a_deleted_answer_cannot_be_put_back(archive: Archive, tmp_path: Path) -> None:
    await archive.put(ANSWER)
    with closing(Database(tmp_path / "responses.db")) as database:
        [row] = database.read("SELECT * FROM answers")
        await archive.remove("a", "me")
        database.write(f"INSERT INTO answers VALUES ({', '.join('?' * len(row))})", row)
    with pytest.raises(NotFoundError):
        await archive.find("a", "me")
    await archive.remove("a", "me")


async def test_an_earlier_form_of_an_answer_cannot_take_the_place_of_the_later(
    archive: Archive, tmp_path: Path
) -> None:
    await archive.put(ANSWER)
    with closing(Database(tmp_path / "responses.db")) as database:
        [(body,)] = database.read("SELECT body FROM answers")
        await archive.settle(Kept("a", "me", b"the end", b"[]"))
        database.write("UPDATE answers SET body = ?", (body,))
    with pytest.raises(NotFoundError):
        await archive.find("a", "me")


async def test_answers_that_changed_places_or_owners_or_were_never_sealed_are_refused(
    archive: Archive, tmp_path: Path
) -> None:
    for id in ("a", "b", "c", "d"):
        await archive.put(Kept(id, "me", id.encode(), b"[]"))
    with closing(Database(tmp_path / "responses.db")) as database:
        database.write("UPDATE answers SET body = (SELECT body FROM answers WHERE id = 'b') WHERE id = 'a'")
        database.write("UPDATE answers SET owner = 'you' WHERE id = 'b'")
        database.write("UPDATE answers SET body = x'7b7d' WHERE id = 'c'")
    for id, owner in (("a", "me"), ("b", "you"), ("c", "me")):
        with pytest.raises(IntegrityError):
            await archive.find(id, owner)
    assert [found for found in archive.each() if isinstance(found, Kept)] == [Kept("d", "me", b"d", b"[]")]
    await archive.remove("c", "me")
    assert (await archive.find("d", "me")).body == b"d"


def leave_in_the_clear(home: Path, count: int) -> list[Kept]:
    kept = [Kept(f"a{number}", "me", SECRET + b"%d" % number, SECRET, (b"frame",)) for number in range(count)]
    plain = Archive(lambda: Database(home / "responses.db"), keep_s=60, max_bytes=1 << 30)
    for one in kept:
        plain._put(one)
    plain.close()
    return kept


def test_answers_from_before_the_vault_are_sealed_and_none_is_lost(
    archive: Archive, vault: Vault, tmp_path: Path
) -> None:
    kept = leave_in_the_clear(tmp_path, 50)
    inode = os.open(tmp_path / "responses.db", os.O_RDONLY)
    assert SECRET in on_disk(tmp_path)
    for _ in range(2):
        seal_answers(tmp_path / "responses.db", vault)
    assert SECRET not in on_disk(tmp_path)
    assert SECRET not in os.pread(inode, 1 << 24, 0)
    os.close(inode)
    assert {one.id: one for one in archive.each() if isinstance(one, Kept)} == {one.id: one for one in kept}


def test_sealing_that_is_killed_at_any_moment_loses_nothing(vault: Vault, archive: Archive, tmp_path: Path) -> None:
    kept = leave_in_the_clear(tmp_path, 1500)
    code = (
        "import sys; from pathlib import Path; from catena.core.settings import ReachSettings;"
        "from catena.reach.sealing import seal_answers; from catena.reach.vault import Vault;"
        "home = Path(sys.argv[1]); vault = Vault.open(home, ReachSettings()); print('go', flush=True);"
        "seal_answers(home / 'responses.db', vault); print('done')"
    )
    random = Random(5)
    killed = 0
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(random.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        killed += "done" not in process.stdout.read()
        process.stdout.close()
        process.wait()
    assert killed
    seal_answers(tmp_path / "responses.db", vault)
    assert SECRET not in on_disk(tmp_path)
    assert {one.id: one for one in archive.each() if isinstance(one, Kept)} == {one.id: one for one in kept}
