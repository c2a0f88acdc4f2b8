"""Contexts beyond what a model was trained for: scaled where settings say how, else said, never cut in silence."""

from __future__ import annotations

import logging
import struct

import pytest
from tests.conformance.asking import ask, events_of, text_of, usage_of
from tests.run.engines.conftest import Load, by_hand

from catena.core.errors import ConfigError, ContextError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.protocols import Context

pytestmark = pytest.mark.anyio
TRAINED = 256
LONG = " ".join(f"On day {day} the ship sailed {day * 7} miles." for day in range(24))


@pytest.fixture(scope="module")
def short(chat_model: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """The chat model, with a header that says that it was trained for 256 tokens."""
    data = bytearray(chat_model.path("weights").read_bytes())
    key = b"llama.context_length"
    place = data.index(key) + len(key)
    assert struct.unpack_from("<II", data, place) == (4, 8192)
    struct.pack_into("<I", data, place + 4, TRAINED)
    path = tmp_path_factory.mktemp("short") / "short.gguf"
    path.write_bytes(data)
    return by_hand(path, "short", "generate", "gguf")


async def test_more_than_trained_is_said_where_all_models_are_meant(
    load: Load, short: StoredModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "catena.run"):
        loaded = await load(short, context_tokens=1024)
    assert loaded.session.facts.context_tokens == TRAINED
    assert "short has a context of 256 tokens, not the 1024 of run.context_tokens" in caplog.text
    with pytest.raises(ContextError):
        await events_of(loaded, ask(LONG, max_tokens=4))


@pytest.mark.parametrize("scaling", ["linear", "yarn"])
async def test_positions_are_scaled_where_settings_say_how(load: Load, short: StoredModel, scaling: str) -> None:
    context = Context(tokens=1024, rope_scaling=scaling, rope_factor=4.0)
    loaded = await load(short, context_tokens=1024, context=context)
    assert loaded.session.facts.context_tokens == 1024
    events = await events_of(loaded, ask(LONG, max_tokens=4))
    assert usage_of(events).prompt_tokens > TRAINED
    assert text_of(events)


async def test_without_a_length_of_its_own_a_scaled_model_has_the_whole(load: Load, short: StoredModel) -> None:
    loaded = await load(short, context_tokens=0, context=Context(rope_scaling="yarn", rope_factor=2.0))
    assert loaded.session.facts.context_tokens == 2 * TRAINED


async def test_scaling_and_base_change_what_the_model_computes(load: Load, chat_model: StoredModel) -> None:
    prompt = LONG[:200]
    found: dict[str, tuple[float, ...]] = {}
    for name, context in {
        "none": Context(),
        "base": Context(rope_base=400_000.0),
        "linear": Context(rope_scaling="linear", rope_factor=2.0),
        "yarn": Context(rope_scaling="yarn", rope_factor=2.0),
        "taken away": Context(rope_scaling="none"),
    }.items():
        loaded = await load(chat_model, slots=1, context=context)
        events = await events_of(loaded, ask(prompt, max_tokens=1, logprobs=1, temperature=0.0))
        found[name] = tuple(one.logprob for event in events for one in getattr(event, "logprobs", ()))
        await loaded.session.close()
    assert found.pop("taken away") == found["none"], "this model brings no scaling along"
    assert len(set(found.values())) == 4


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (Context(tokens=1024), "wants 1024 tokens, and the model can tell 256 apart"),
        (Context(tokens=2048, rope_scaling="yarn", rope_factor=4.0), "can tell 1024 apart"),
        (Context(rope_factor=2.0), "without a way to scale"),
        (Context(rope_scaling="none", rope_factor=2.0), "without a way to scale"),
        (Context(rope_scaling="linear"), "scales positions by nothing"),
    ],
)
async def test_settings_that_do_not_fit_the_model_are_refused(
    load: Load, short: StoredModel, context: Context, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        await load(short, context_tokens=context.tokens, context=context)
    assert caught.value.hint


async def test_nothing_drafts_for_a_model_whose_positions_are_scaled(load: Load, short: StoredModel) -> None:
    context = Context(rope_scaling="yarn", rope_factor=4.0)
    with pytest.raises(UnsupportedError, match="nothing can draft"):
        await load(short, context=context, draft=short)
