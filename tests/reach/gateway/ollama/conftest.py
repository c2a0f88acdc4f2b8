"""A gateway over a scripted router, a real store in a folder of its own, and sessions that only remember."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script
from tests.store.conftest import Gguf

from catena.core.errors import NotFoundError
from catena.core.manifest import StoredModel
from catena.core.settings import ReachSettings, StoreSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create
from catena.reach.ticket import Caller
from catena.store import Store
from catena.watch.keys import Signer

ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


class Loaded(msgspec.Struct):
    model: str
    digest: str
    memory_bytes: int = 1000
    context_tokens: int = 64
    unload_in_s: float | None = 300.0


class Sessions:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.kept: list[tuple[str, float | None]] = []
        self.rows: list[Loaded] = []

    async def load(self, name: str, caller: Caller) -> StoredModel:
        if name != "tiny":
            raise NotFoundError("there is no such model here", param="model")
        self.loads.append(name)
        return MODEL

    def keep(self, digest: str, idle_s: float | None) -> None:
        self.kept.append((digest, idle_s))

    def loaded(self) -> list[Loaded]:
        return self.rows


class OllamaDoor(Door):
    """A door with a store and sessions behind it."""

    store: Store
    sessions: Sessions


def open_door(store: Store | None, **settings: Any) -> OllamaDoor:
    """A gateway that knows `tiny`, and what `store` holds if there is one."""
    script, access, sessions = Script(), Access(Memory()), Sessions()
    tiny = Row("tiny", MODEL.digest, ("default",), MODEL.manifest)
    app = create(
        script,
        ReachSettings(**settings),
        access,
        models=lambda: [tiny, *(store.models() if store else ())],
        shelf=store,
        intake=store,
        sessions=sessions,
    )
    door = OllamaDoor(app, script, access, Log())
    door.sessions = sessions
    if store is not None:
        door.store = store
    return door


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path, StoreSettings(), Signer.open(tmp_path))
    yield store
    store.close()


@pytest.fixture(scope="session")
def gguf() -> Gguf:
    return Gguf()


@pytest.fixture
def weights(tmp_path: Path, gguf: Gguf) -> Path:
    """A GGUF file of a few kilobytes."""
    path = tmp_path / "Little.gguf"
    path.write_bytes(gguf.file())
    return path


def lines(body: bytes) -> list[Any]:
    """The lines of a stream, as a client reads them: white space before a line is nothing."""
    return [msgspec.json.decode(line) for line in body.decode().split("\n") if line.strip()]
