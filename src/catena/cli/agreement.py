"""How near a converted model is to its parent in an engine, by what both say comes next and how likely."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import anyio

from catena.build.convert import Expected, Measure
from catena.core import registry
from catena.core.errors import UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import CompletionRequest, Delta, Sampling
from catena.core.protocols import Generator
from catena.core.settings import RunSettings
from catena.run.scheduler import Scheduler

PROBES = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def add(a, b):\n    return",
    "Once upon a time there was a little",
    "The sum of two and two is",
    "In 1969, the first people walked on the",
)
NUM_TOP = 16
# Far beyond what rounding to four bits does, and far below what a wrong order of rows does.
MAX_DIFFERENCE = 1.5
_CALLER = "convert"

Prompt = str | tuple[int, ...]


def compared(
    child: StoredModel, parent: StoredModel, expected: Sequence[Expected], settings: RunSettings, home: Path
) -> Measure | None:
    """Ask both, or the child alone where what the parent says is `expected`; None where nothing can be asked.

    The value is the mean difference of log probabilities (nats) over the parent's likeliest tokens.
    """
    if child.manifest.task != "generate" or (not expected and parent.manifest.format != child.manifest.format):
        return None
    return anyio.run(_compared, child, parent, expected, settings, home)


async def _compared(
    child: StoredModel, parent: StoredModel, expected: Sequence[Expected], settings: RunSettings, home: Path
) -> Measure | None:
    engines = registry.Made("engines", registry.names("engines"))
    async with Scheduler(engines, settings, home, keeps=False) as scheduler:
        try:
            if expected:
                wanted = [one.logprobs for one in expected]
                got = await _answers(scheduler, child, [one.tokens for one in expected])
            else:
                wanted = await _answers(scheduler, parent, PROBES)
                got = await _answers(scheduler, child, PROBES)
        except UnsupportedError:
            return None
    return measured(wanted, got)


async def _answers(scheduler: Scheduler, model: StoredModel, prompts: Sequence[Prompt]) -> list[dict[bytes, float]]:
    """The log probability of the likeliest tokens after each prompt, by their bytes."""
    found: list[dict[bytes, float]] = []
    async with scheduler.lease(model, _CALLER) as lease:
        session = cast(Generator, lease.session)
        for prompt in prompts:
            sampling = Sampling(max_tokens=1, temperature=0.0, logprobs=NUM_TOP)
            answers: dict[bytes, float] = {}
            async for event in session.generate(CompletionRequest(model.name, prompt, sampling)):
                if isinstance(event, Delta) and event.logprobs and not answers:
                    answers = {one.token_bytes: one.logprob for one in event.logprobs[0].top}
            found.append(answers)
    return found


def measured(wanted: Sequence[dict[bytes, float]], got: Sequence[dict[bytes, float]]) -> Measure:
    """Compare what was said after each probe: which token is likeliest, and how likely the shared ones are."""
    differences: list[float] = []
    num_equal = 0
    for first, second in zip(wanted, got, strict=True):
        num_equal += bool(first and second) and max(first, key=first.__getitem__) == max(second, key=second.__getitem__)
        differences += [abs(first[token] - second[token]) for token in first if token in second]
    # Tokens that are likely for one and not for the other count in the number of shared ones.
    share = len(differences) / max(1, sum(map(len, wanted)))
    mean = sum(differences) / len(differences) if differences else float("inf")
    what = f"difference of log probability ({num_equal} of {len(wanted)} likeliest tokens equal)"
    return Measure(what, mean, mean <= MAX_DIFFERENCE and share >= 0.25)
