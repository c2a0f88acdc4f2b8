"""States of conversations that outlive a session: read again after a load, private, bounded, never wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from tests.conformance.asking import ask, events_of, text_of, usage_of
from tests.conformance.conftest import Loaded
from tests.run.engines.conftest import Load

from catena.core.protocols import Context
from catena.run.engines.llama_cpp.kept import INDEX, Kept, State

pytestmark = pytest.mark.anyio
SECRET = "saltpetre"
STORY = f"The word is {SECRET}. " + " ".join(f"On day {day} the ship sailed {day * 7} miles." for day in range(8))
ROOM = 64 << 20


async def told(loaded: Loaded, text: str) -> tuple[int, str]:
    """Tokens that did not have to be computed again, and the answer."""
    events = await events_of(loaded, ask(text, max_tokens=4))
    return usage_of(events).cached_tokens, text_of(events)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "prompts" / "model"
    made.mkdir(parents=True, mode=0o700)
    return made


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_a_conversation_goes_on_in_a_new_session_where_it_stood(load: Load, folder: Path) -> None:
    wishes = {"kept_folder": str(folder), "kept_bytes": ROOM}
    first = await load(**wishes)
    cached, _ = await told(first, STORY)
    assert cached == 0
    await first.session.close()
    kept = files(folder)
    assert {path.suffix for path in kept} == {".bin", ".json"}
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in kept} == {0o700}
    assert SECRET.encode() not in (kept[0].parent / INDEX).read_bytes()

    again = await load(**wishes)
    plain = await load()
    cached, answer = await told(again, STORY + " On day")
    new, expected = await told(plain, STORY + " On day")
    assert new == 0 and cached > 100
    assert answer == expected


async def test_nothing_is_kept_where_nothing_may_be(load: Load, folder: Path) -> None:
    one = await load(kept_folder=str(folder), kept_bytes=0)
    await told(one, STORY)
    await one.session.close()
    assert files(folder) == []


async def test_a_state_of_another_kind_of_cache_or_context_is_not_taken(load: Load, folder: Path) -> None:
    wishes = {"kept_folder": str(folder), "kept_bytes": ROOM}
    first = await load(**wishes)
    await told(first, STORY)
    await first.session.close()
    changed = await load(**wishes, kv_type="q8_0", context=Context(rope_base=200_000.0))
    assert (await told(changed, STORY))[0] == 0
    await changed.session.close()
    assert len({path.parent for path in files(folder)}) == 2
    keys = [Kept(folder, depends, 1).folder for depends in ((1, "f16"), (1, "q8_0"), (2, "f16"), (1, "f16"))]
    assert len(set(keys)) == 3


async def test_a_state_that_the_library_does_not_take_is_left_out(load: Load, folder: Path) -> None:
    wishes = {"kept_folder": str(folder), "kept_bytes": ROOM}
    first = await load(**wishes)
    await told(first, STORY)
    await first.session.close()
    (state,) = [path for path in files(folder) if path.suffix == ".bin"]
    state.write_bytes(b"not what llama.cpp wrote" * 100)
    kept = Kept(folder, None, ROOM)
    kept.folder = state.parent
    kept.add(state.name, 100)
    kept.end()
    again = await load(**wishes)
    cached, answer = await told(again, STORY)
    assert cached == 0 and answer


async def test_a_state_that_has_no_room_is_not_written_and_leaves_nothing(load: Load, folder: Path) -> None:
    one = await load(kept_folder=str(folder), kept_bytes=100_000)
    await told(one, STORY)
    await one.session.close()
    assert files(folder) == []


async def test_a_folder_that_went_with_its_model_is_not_made_again(load: Load, folder: Path) -> None:
    one = await load(kept_folder=str(folder), kept_bytes=ROOM)
    await told(one, STORY)
    shutil.rmtree(folder)
    await one.session.close()
    assert files(folder.parent) == []


def test_the_oldest_sets_of_all_models_give_way(tmp_path: Path) -> None:
    made: list[Kept] = []
    for age, model in enumerate(("a", "b", "c")):
        folder = tmp_path / model
        folder.mkdir()
        kept = Kept(folder, age, 2500)
        assert kept.claim() == [] and kept.begin()
        (kept.folder / "slot-0.bin").write_bytes(bytes(1000))
        kept.add("slot-0.bin", 100)
        kept.end()
        made.append(kept)
    assert [kept.folder.exists() for kept in made] == [False, True, True]
    assert made[2].claim() == ["slot-0.bin"]
    assert Kept(tmp_path / "c", 2, 500).claim() == [], "the limit was lowered"


@pytest.mark.parametrize("harm", ["bent", "cut", "gone", "index", "more"])
def test_what_was_harmed_on_the_disk_is_deleted(tmp_path: Path, harm: str) -> None:
    kept = Kept(tmp_path, 1, ROOM)
    kept.claim()
    state, index = kept.folder / "slot-0.bin", kept.folder / INDEX
    state.write_bytes(bytes(1000))
    kept.add(state.name, 100)
    kept.end()
    assert Kept(tmp_path, 1, ROOM).claim() == [state.name]
    match harm:
        case "bent":
            state.write_bytes(bytes(999) + b"x")
        case "cut":
            state.write_bytes(bytes(999))
        case "gone":
            state.unlink()
        case "index":
            index.write_text('[{"name": 7}]')
        case _:
            (kept.folder / "slot-7.bin").touch()
            assert Kept(tmp_path, 1, ROOM).claim() == [state.name], "what no index names is only deleted"
            assert files(kept.folder) == sorted([state, index])
            return
    assert Kept(tmp_path, 1, ROOM).claim() == []
    assert files(kept.folder) == []


@pytest.mark.parametrize("name", ["../slot-0.bin", "/etc/passwd", ".."])
def test_an_index_cannot_name_what_is_elsewhere(tmp_path: Path, name: str) -> None:
    kept = Kept(tmp_path, 1, ROOM)
    kept.claim()
    index = [State(name, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 100)]
    (kept.folder / INDEX).write_bytes(msgspec.json.encode(index))
    (tmp_path / "slot-0.bin").touch()
    assert kept.claim() == []
    assert (tmp_path / "slot-0.bin").exists()
