"""A preset fills what a request leaves open and nothing else, and survives its way through a manifest."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core.errors import IntegrityError
from catena.core.manifest import Manifest, Provenance
from catena.core.messages import ChatRequest, CompletionRequest, Message, Sampling, Text
from catena.reach.presets import EMPTY, PARAMETERS, Preset

TEXTS = st.text(max_size=9)
SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 99),
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(0, 99),
    stop=st.lists(st.text(min_size=1, max_size=4), max_size=2).map(tuple),
)
TURNS = st.lists(
    st.builds(lambda role, text: Message(role, (Text(text),)), st.sampled_from(["user", "assistant"]), TEXTS),
    max_size=2,
).map(tuple)
PRESETS = st.builds(
    Preset, SAMPLINGS, TEXTS, TURNS, st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 2), max_size=2)
)


def manifest(facts: dict[str, Any]) -> Manifest:
    return Manifest("tiny", "generate", "test", (), "MIT", Provenance("test"), facts={"context_tokens": 8, **facts})


def message(role: Any, text: str) -> Message:
    return Message(role, (Text(text),))


@given(PRESETS)
def test_a_preset_survives_its_way_through_a_manifest(preset: Preset) -> None:
    kept = msgspec.json.decode(msgspec.json.encode(manifest(preset.facts())), type=Manifest)
    assert Preset.of(kept) == preset


@given(PRESETS, SAMPLINGS)
def test_what_a_request_sets_stays_and_the_rest_is_filled_in(preset: Preset, own: Sampling) -> None:
    given_one = ChatRequest("tiny", (message("user", "hi"),), sampling=own, adapters={"mine": 1.0})
    applied = preset.applied(given_one)
    for name in PARAMETERS:
        asked, set_here = getattr(own, name), getattr(preset.sampling, name)
        assert getattr(applied.sampling, name) == (set_here if asked in (None, ()) else asked)
    assert applied.adapters == {**preset.adapters, "mine": 1.0}


def test_a_system_message_comes_first_and_yields_to_the_request_s_own() -> None:
    preset = Preset(system="Be brief.", messages=(message("user", "1"), message("assistant", "2")))
    asked = ChatRequest("tiny", (message("user", "3"),))
    assert [one.role for one in preset.applied(asked).messages] == ["system", "user", "assistant", "user"]
    asked = ChatRequest("tiny", (message("system", "Be long."), message("user", "3")))
    found = preset.applied(asked)
    assert isinstance(found, ChatRequest)
    assert [one.parts[0].text for one in found.messages] == ["Be long.", "1", "2", "3"]  # type: ignore[union-attr]


def test_a_raw_prompt_gets_no_messages() -> None:
    preset = Preset(Sampling(temperature=0.5), "Be brief.", (message("user", "1"),))
    found = preset.applied(CompletionRequest("tiny", "One,"))
    assert found == CompletionRequest("tiny", "One,", Sampling(temperature=0.5))


def test_a_model_without_a_preset_changes_nothing() -> None:
    assert Preset.of(manifest({"note": "x"})) is EMPTY
    asked = ChatRequest("tiny", (message("user", "hi"),))
    assert EMPTY.applied(asked) is asked


@pytest.mark.parametrize(
    "facts", [{"preset.stop": "no json"}, {"preset.temperature": "hot"}, {"preset.messages": '[{"role": "king"}]'}]
)
def test_a_preset_that_cannot_be_read_is_not_passed_over(facts: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Preset.of(manifest(facts))
