"""What settings say of one engine or one model reaches its sessions, and nothing that nobody would read is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.run.scheduler.conftest import FakeEngine, make_model

from catena.core.errors import ConfigError
from catena.core.protocols import Context
from catena.core.settings import ContextSettings, RunSettings, ServedSettings
from catena.run.scheduler import Scheduler

pytestmark = pytest.mark.anyio


async def placed(home: Path, settings: RunSettings, *names: str) -> FakeEngine:
    """An engine `fake` after it has loaded these models."""
    engine = FakeEngine()
    async with Scheduler({"fake": engine, "vllm": FakeEngine()}, settings, home) as scheduler:
        for name in names:
            async with scheduler.lease(make_model(name), "local"):
                pass
    return engine


async def test_an_engine_loads_where_settings_put_it(tmp_path: Path) -> None:
    engine = await placed(tmp_path, RunSettings(devices={"fake": "gpu.1"}), "m")
    assert [place.device for place in engine.placements] == ["gpu.1"]
    engine = await placed(tmp_path, RunSettings(devices={"vllm": "cuda"}), "m")
    assert [place.device for place in engine.placements] == ["cpu"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (RunSettings(devices={"fale": "gpu"}), "'fale' that is not here"),
        (RunSettings(devices={"vllm": "cuda"}, vllm=ServedSettings(device="cpu")), "both say where vllm computes"),
    ],
)
async def test_a_choice_that_nobody_would_read_stops_the_start(
    tmp_path: Path, settings: RunSettings, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        await placed(tmp_path, settings)
    assert caught.value.hint


async def test_a_context_is_that_of_the_model_before_that_of_all(tmp_path: Path) -> None:
    long = ContextSettings(tokens=4096, rope_scaling="yarn", rope_factor=2.0)
    scaled = ContextSettings(rope_base=1e6)
    settings = RunSettings(context_tokens=512, contexts={"long": long, "scaled": scaled})
    engine = await placed(tmp_path, settings, "long", "scaled", "other")
    found = [(place.context_tokens, place.context) for place in engine.placements]
    taken = [Context(4096, "yarn", 2.0), Context(rope_base=1e6), Context()]
    assert found == list(zip((4096, 512, 512), taken, strict=True))


async def test_what_outlives_sessions_has_a_private_folder_for_each_model_or_is_deleted(tmp_path: Path) -> None:
    engine = await placed(tmp_path, RunSettings(kept_prompts_bytes=1000), "a", "b")
    folders = [Path(place.kept_folder) for place in engine.placements]
    assert [one.parent for one in folders] == [tmp_path / "prompts"] * 2
    assert folders[0] != folders[1]
    assert {one.stat().st_mode & 0o777 for one in folders} == {0o700}
    assert {place.kept_bytes for place in engine.placements} == {1000}
    async with Scheduler({}, RunSettings(), tmp_path, keeps=False):
        pass
    assert all(one.exists() for one in folders), "who keeps nothing leaves alone what others kept"
    engine = await placed(tmp_path, RunSettings(), "a")
    assert not (tmp_path / "prompts").exists()
    assert [place.kept_folder for place in engine.placements] == [""]
