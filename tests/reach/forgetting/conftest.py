"""A state folder with everything that keeps content, and what forgets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from catena.core.messages import Closed, Egress, Opened
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.archive import Archive, Kept
from catena.reach.batches import Batches, Files, Runner
from catena.reach.batches.batch import Batch
from catena.reach.egress.keeping import Shelf
from catena.reach.forgetting import Forgetting
from catena.reach.forgetting.finding import Stores
from catena.reach.vault import Vault
from catena.store.database import Database
from catena.watch.keys import Signer

URL = "/v1/chat/completions"


class Log:
    """Keeps records as the audit log does."""

    def __init__(self) -> None:
        self.records: list[Opened | Egress | Closed] = []

    async def append(self, record: Opened | Egress | Closed) -> int:
        self.records.append(record)
        return len(self.records) - 1


class Place:
    """One state folder, opened by the only process that writes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self.vault = Vault.open(home, ReachSettings())
        self.signer = Signer.open(home)
        self.table = Database(home / "catena.db")
        self.archive = Archive(lambda: Database(home / "responses.db"), keep_s=1e6, max_bytes=1 << 30, vault=self.vault)
        self.files = Files(self.table, home / "files", max_files=999, max_bytes=1 << 30, vault=self.vault)
        self.batches = Batches(self.table, home / "batches", vault=self.vault)
        self.access = Access(self.table)
        self.runner = Runner(self.batches, self.files, self.access, ReachSettings())
        self.runner.recover()
        self.shelf = Shelf(home, self.vault)
        self.log = Log()
        self.unloaded = 0
        self.forgetting = Forgetting(
            home,
            self.vault,
            lambda: Stores(self.archive, self.files, self.batches, self.shelf, self.table, self.table),
            self.runner,
            self.log,
            self.signer,
            unload=self._unload,
            clear_prompts=lambda: None,
        )

    async def _unload(self) -> None:
        self.unloaded += 1

    def close(self) -> None:
        self.archive.close()
        self.table.close()
        self.vault.close()

    def say(self, id: str, text: str, before: str | None = None, owner: str = "local") -> str:
        """Keep an answer; its receipt."""
        receipt = f"rcpt_{id:0>26}"
        body = {"id": id, "previous_response_id": before, "output": text, "catena": {"receipt": receipt}}
        self.archive._put(Kept(id, owner, json.dumps(body).encode(), b"[]", (text.encode(),)))
        return receipt

    def leave(self, text: str, name: str = "a.txt", owner: str = "local", purpose: str = "batch") -> str:
        draft = self.files.make_folder() / "draft"
        sink = self.files.create(draft)
        sink.write(text.encode())
        sink.close()
        return self.files.adopt(draft, owner, name, purpose, None).id

    def add(self, file_id: str, owner: str = "local", note: str = "") -> Batch:
        return self.batches.add(
            owner, URL, file_id, completion_window="x", window_s=60, output_keep_s=None, metadata={"note": note}
        )

    def answers(self) -> set[str]:
        return {one.id for one in self.archive.each() if isinstance(one, Kept)}

    def bytes_on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    opened = Place(tmp_path / "home")
    yield opened
    opened.close()
