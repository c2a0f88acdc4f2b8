"""A place with a stand-in of each server, and sessions of it that end with the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.run.served import places

from catena.core import registry
from catena.core.protocols import Placement


@pytest.fixture(params=["vllm", "sglang"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> places.Place:
    return places.install(tmp_path / "env", request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The private folder of sessions."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


Load = Callable[..., Awaitable[Any]]


@pytest.fixture
async def load(place: places.Place, folder: Path, tmp_path: Path) -> AsyncGenerator[Load]:
    """Load a model by the engine of `place`; `settings` are those of the engine."""
    opened: list[Any] = []
    engines: dict[Any, Any] = {}

    async def one(task: Any = "generate", *, context_tokens: int = 0, device: str = "cpu", **settings: Any) -> Any:
        wanted = place.settings(**settings)
        engine = engines.setdefault(wanted, registry.find("engines", place.name)(wanted))
        model = places.stored(tmp_path / f"model-{task}", task)
        session = await engine.load(model, Placement(device, folder=str(folder), context_tokens=context_tokens))
        opened.append(session)
        return session

    yield one
    for session in opened:
        await session.close()
