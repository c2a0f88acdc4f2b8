"""How the llama.cpp engine samples: seeds, log probabilities, biases, stops, and adapters chosen per request."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from tests.conformance.asking import ask, chat, check_order, events_of, reasons_of, text_of, usage_of
from tests.conformance.conftest import Loaded
from tests.run.engines.conftest import Load, by_hand, write_gguf

from catena.core.errors import EngineError, InputError, NotFoundError
from catena.core.messages import CompletionRequest, Delta, Event, Sampling, TokenLogprob

pytestmark = pytest.mark.anyio


def logprobs_of(events: list[Event]) -> list[TokenLogprob]:
    return [logprob for event in events if isinstance(event, Delta) for logprob in event.logprobs]


async def test_seeds_decide_the_answer(llama: Loaded) -> None:
    texts = [
        text_of(await events_of(llama, chat("Tell me a story.", temperature=1.0, seed=seed, max_tokens=8)))
        for seed in (1, 2, 3, 1, 2**40 + 3)
    ]
    assert texts[0] == texts[3]
    assert len(set(texts[:3])) > 1


async def test_choices_of_one_seed_differ_from_each_other_and_come_again(llama: Loaded) -> None:
    wish = chat("Tell me a story.", temperature=1.2, seed=5, num_choices=3, max_tokens=8)
    first, second = await events_of(llama, wish), await events_of(llama, wish)
    check_order(first, 3)
    texts = [text_of(first, choice) for choice in range(3)]
    assert len(set(texts)) > 1
    assert texts == [text_of(second, choice) for choice in range(3)]


async def test_log_probabilities_are_those_of_a_distribution_and_greedy_takes_the_best(llama: Loaded) -> None:
    events = await events_of(llama, chat("Name a colour.", logprobs=20, max_tokens=5))
    found = logprobs_of(events)
    assert len(found) == usage_of(events).completion_tokens
    for one in found:
        assert len(one.top) == 20
        assert one.logprob == pytest.approx(one.top[0].logprob, abs=1e-4)
        assert one.token == one.top[0].token
        assert 0.2 < sum(numpy.exp(top.logprob) for top in one.top) <= 1.001
        assert one.token_bytes == one.token.encode()


async def test_log_probabilities_of_a_seldom_token_stand_beside_better_alternatives(llama: Loaded) -> None:
    wish = chat("Name a colour.", temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, seed=3, logprobs=2, max_tokens=6)
    found = logprobs_of(await events_of(llama, wish))
    assert any(one.logprob < one.top[1].logprob for one in found)


async def test_no_alternatives_still_gives_the_chosen_tokens(llama: Loaded) -> None:
    for request in (chat("Hi", logprobs=0, max_tokens=3), ask(logprobs=0, max_tokens=3)):
        found = logprobs_of(await events_of(llama, request))
        assert len(found) == 3
        assert all(one.logprob < 0 and one.top == () for one in found)


async def test_a_bias_forces_a_token_and_another_forbids_it(llama: Loaded) -> None:
    forced = text_of(await events_of(llama, ask(max_tokens=3, logit_bias={2000: 100.0})))
    assert forced == forced[: len(forced) // 3] * 3 and forced
    both = text_of(await events_of(llama, ask(max_tokens=3, logit_bias={2000: -100.0, 3000: 100.0})))
    assert both != forced and both == both[: len(both) // 3] * 3
    with pytest.raises(InputError):
        await events_of(llama, ask(logit_bias={10**6: 1.0}))


async def test_an_answer_goes_on_past_its_natural_end_when_asked_to(llama: Loaded) -> None:
    free = await events_of(llama, chat("Say only: yes.", max_tokens=60))
    forced = await events_of(llama, chat("Say only: yes.", max_tokens=60, ignore_eos=True))
    assert reasons_of(free) == {0: "stop"}
    assert usage_of(forced).completion_tokens == 60 > usage_of(free).completion_tokens


async def test_token_ids_are_a_prompt(llama: Loaded) -> None:
    events = await events_of(llama, CompletionRequest("m", (504, 2365, 260), Sampling(max_tokens=2)))
    assert usage_of(events).prompt_tokens == 3
    with pytest.raises(InputError):
        await events_of(llama, CompletionRequest("m", (504, 10**6)))


async def test_echo_puts_the_prompt_first(llama: Loaded) -> None:
    events = await events_of(llama, CompletionRequest("m", "one, two,", Sampling(max_tokens=2), echo=True))
    assert text_of(events).startswith("one, two,") and len(text_of(events)) > len("one, two,")


def write_adapter(path: Path, seed: int, *, width: int = 1536) -> Path:
    """A LoRA of rank 4 with random weights on the last layer of SmolLM2-135M: 1,536 in, 576 out."""
    draw = numpy.random.default_rng(seed).standard_normal
    metadata: dict[str, str | float] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": path.stem,
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    name = "blk.29.ffn_down.weight"
    write_gguf(path, metadata, {f"{name}.lora_a": draw((4, width)), f"{name}.lora_b": draw((576, 4))})
    return path


async def test_adapters_are_chosen_by_each_request(load: Load, llama: Loaded, tmp_path: Path) -> None:
    adapters = tuple(
        by_hand(write_adapter(tmp_path / f"{name}.gguf", seed), name, "adapter", "gguf")
        for seed, name in enumerate(("red", "blue"))
    )
    loaded = await load(adapters=adapters)

    async def first(**scales: float) -> list[float]:
        wish = chat("Name a colour.", logprobs=5, max_tokens=1, adapters=scales)
        return [top.logprob for top in logprobs_of(await events_of(loaded, wish))[0].top]

    bare = [top.logprob for top in logprobs_of(await events_of(llama, chat("Name a colour.", logprobs=5)))[0].top]
    plain, red, blue, half = await first(), await first(red=1.0), await first(blue=1.0), await first(red=0.5)
    assert plain == pytest.approx(bare, abs=0.05) == await first(red=0.0)
    apart = [plain, red, blue, half]
    for index, one in enumerate(apart):
        for other in apart[index + 1 :]:
            assert numpy.abs(numpy.subtract(one, other)).max() > 0.2
    with pytest.raises(NotFoundError, match="red, blue"):
        await first(green=1.0)


async def test_an_adapter_for_another_model_is_an_engine_error(load: Load, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "foreign.gguf", 1, width=512)
    with pytest.raises(EngineError):
        await load(adapters=(by_hand(path, "foreign", "adapter", "gguf"),))
