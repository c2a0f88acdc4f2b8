"""Guessing ahead: with another model or from the prompt, answers stay what they are."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests import projectors
from tests.conformance.asking import ask, chat, events_of, text_of
from tests.conformance.conftest import Loaded, stored
from tests.run.engines.conftest import CHAT, Load, by_hand
from tests.run.engines.test_llama_cpp_media import with_projector
from tests.store.writing import Gguf

from catena.core.errors import ConfigError, NotFoundError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import Event, Timings
from catena.core.protocols import Placement
from catena.core.settings import RunSettings
from catena.run.engines import llama_cpp
from catena.run.scheduler import Scheduler
from catena.store.formats import gguf

pytestmark = pytest.mark.anyio
COPY = "Copy this.\n" + 2 * "alpha beta gamma delta epsilon zeta eta theta iota kappa\n" + "alpha beta gamma"
REQUESTS = (ask("The history of Rome begins with", max_tokens=24), ask(COPY, max_tokens=24), chat("Count to six."))


def drafts_of(events: list[Event]) -> tuple[int, int]:
    timings = events[-1]
    assert isinstance(timings, Timings)
    return timings.drafted, timings.accepted


async def answers(loaded: Loaded) -> tuple[list[str], int, int]:
    found = [await events_of(loaded, request) for request in REQUESTS]
    counts = [drafts_of(events) for events in found]
    return [text_of(events) for events in found], sum(one for one, _ in counts), sum(two for _, two in counts)


@pytest.fixture(scope="module")
async def plain(llama: Loaded) -> list[str]:
    texts, drafted, accepted = await answers(llama)
    assert (drafted, accepted) == (0, 0)
    return texts


async def test_a_draft_model_changes_no_answer_and_its_guesses_are_counted(load: Load, plain: list[str]) -> None:
    loaded = await load(draft=stored(CHAT))
    texts, drafted, accepted = await answers(loaded)
    assert texts == plain
    assert accepted > 0.8 * drafted > 0, "it drafts for itself"


async def test_guesses_from_the_prompt_change_no_answer(load: Load, plain: list[str]) -> None:
    texts, drafted, accepted = await answers(await load(drafts_from_prompt=True))
    assert texts == plain
    assert drafted >= accepted > 0


async def test_a_draft_takes_the_memory_that_is_stated_for_it(load: Load) -> None:
    alone, drafted = (await load()).session.facts, (await load(draft=stored(CHAT))).session.facts
    weights = sum(file.size_bytes for file in stored(CHAT).manifest.files)
    assert drafted.memory_bytes > alone.memory_bytes + weights


async def test_a_draft_of_another_vocabulary_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(Gguf().file())
    other = by_hand(path, "other", "generate", "gguf")
    with pytest.raises(UnsupportedError, match=f"other cannot draft for {CHAT}: their vocabularies differ"):
        await llama_cpp.Engine().load(stored(CHAT), Placement(draft=other, folder=str(tmp_path)))


async def test_nothing_drafts_for_a_model_that_reads_pictures(tmp_path: Path) -> None:
    model = with_projector(projectors.write(tmp_path / "eyes.gguf", 576))
    with pytest.raises(UnsupportedError, match="more than text"):
        await llama_cpp.Engine().load(model, Placement(draft=stored(CHAT), folder=str(tmp_path)))


def test_a_vocabulary_is_known_by_every_one_of_its_tokens(tmp_path: Path) -> None:
    def written(name: str, *tokens: str) -> tuple[str, str]:
        path = tmp_path / name
        entries = [entry for entry in Gguf.TINY if entry[0] != "tokenizer.ggml.tokens"]
        path.write_bytes(Gguf().file([*entries, ("tokenizer.ggml.tokens", 9, (8, tokens))]))
        return gguf.vocabulary(path)

    many = [f"t{number}" for number in range(1000)]
    assert written("a", *many) == written("b", *many)
    assert written("a", *many) != written("c", *many[:-1], "other")
    assert written("d", "x", "y") != written("e", "xy")


# --- which model drafts, as settings say ---


class Seen:
    """An engine that shows what it was given."""

    def accepts(self, model: StoredModel) -> str | None:
        return None

    async def load(self, model: StoredModel, placement: Placement) -> None:
        raise UnsupportedError(f"draft {placement.draft and placement.draft.name} {placement.drafts_from_prompt}")


@pytest.mark.parametrize(
    ("drafts", "expected"),
    [({CHAT: "small"}, "draft small False"), ({CHAT: "prompt"}, "draft None True"), ({"x": "y"}, "draft None False")],
)
async def test_settings_name_the_draft_of_a_model(tmp_path: Path, drafts: dict[str, str], expected: str) -> None:
    def find(name: str) -> StoredModel:
        manifest = msgspec.structs.replace(stored(CHAT).manifest, name=name)
        return msgspec.structs.replace(stored(CHAT), manifest=manifest)

    async with Scheduler({"seen": Seen()}, RunSettings(drafts=drafts), tmp_path, find=find) as scheduler:
        with pytest.raises(UnsupportedError, match=expected):
            async with scheduler.lease(stored(CHAT), "me"):
                pass


async def test_a_draft_that_is_not_stored_is_an_error_of_the_settings(tmp_path: Path) -> None:
    def find(name: str) -> StoredModel:
        raise NotFoundError(f"there is no model {name!r}")

    async with Scheduler({"seen": Seen()}, RunSettings(drafts={CHAT: "gone"}), tmp_path, find=find) as scheduler:
        with pytest.raises(ConfigError, match="no model 'gone'"):
            async with scheduler.lease(stored(CHAT), "me"):
                pass
