"""Servers end with their sessions, with Catena and with their guards, and so does all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.run.served import places

from catena.core.clock import monotonic_s
from catena.run.served import process

pytestmark = pytest.mark.anyio
# From Catena's death to the end of the last process.
KILLED_S = 2.0
PARENT = """
import asyncio, sys
from pathlib import Path
from tests.run.served import places
from catena.core import registry
from catena.core.protocols import Placement

async def main(name, env, model, folder):
    place = places.Place(Path(env), name)
    engine = registry.find("engines", name)(place.settings())
    session = await engine.load(places.stored(Path(model)), Placement(folder=folder))
    print(session.running.process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


def parent(place: places.Place, tmp_path: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A process as Catena's, with a loaded session."""
    words = [place.name, str(place.folder), str(tmp_path / "model"), str(folder)]
    root = Path(__file__).parents[3]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, "-c", PARENT, *words], stdout=subprocess.PIPE, env=environ, cwd=root)


async def guard_of(running: subprocess.Popen[bytes]) -> int:
    assert running.stdout is not None
    with anyio.fail_after(30):
        return int(await anyio.to_thread.run_sync(running.stdout.readline))


@pytest.mark.parametrize("wishes", [{}, {"ignores_term": True}], ids=["well", "ignores term"])
async def test_when_catena_is_killed_its_servers_and_all_they_started_end_within_two_seconds(
    place: places.Place, tmp_path: Path, folder: Path, wishes: dict[str, Any]
) -> None:
    place.wish(grandchildren=2, **wishes)
    with parent(place, tmp_path, folder) as running:
        try:
            guard = await guard_of(running)
            family = place.starts()[0]["family"]
            assert len(family) == 3 and all(places.is_alive(pid) for pid in (guard, *family))
        finally:
            running.kill()
        began_s = monotonic_s()
        await place.gone(KILLED_S)
        await places.until(lambda: not places.is_alive(guard), KILLED_S)
        assert monotonic_s() - began_s < KILLED_S


async def test_closing_a_session_stops_its_server_and_all_it_started(load: Any, place: places.Place) -> None:
    place.wish(grandchildren=2)
    session = await load()
    await session.close()
    await place.gone(0.1)
    assert "Shutting down" in session.running.log_path.read_text(), "it was asked before it was killed"


async def test_a_server_that_ignores_the_wish_to_stop_is_killed_after_its_time(
    load: Any, place: places.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.3)
    place.wish(ignores_term=True, grandchildren=1)
    session = await load()
    began_s = monotonic_s()
    await session.close()
    assert 0.3 <= monotonic_s() - began_s < 5
    await place.gone(0.1)


async def test_a_server_whose_guard_is_killed_is_no_more_and_closing_cleans_up(load: Any, place: places.Place) -> None:
    place.wish()
    session = await load()
    assert not session.is_broken
    os.kill(session.running.process.pid, signal.SIGKILL)
    await place.gone(KILLED_S)
    assert session.is_broken
    await session.close()
    assert not session.running.private.exists()


async def test_a_server_that_is_killed_takes_what_it_started_with_it(load: Any, place: places.Place) -> None:
    place.wish(grandchildren=2)
    session = await load()
    os.kill(place.starts()[0]["family"][0], signal.SIGKILL)
    await place.gone(KILLED_S)
    assert await session.running.process.wait(KILLED_S)
    assert session.is_broken
