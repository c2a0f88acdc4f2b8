"""What a context kept in fewer bits costs: how often the next token of a text, and how sure a model is, stay the same.

    python bench/caches.py

Each type of `run.kv_type` reads the same text; at each place the model's next token and its probability are compared
with those of 16-bit floats. Then the same requests with nobody guessing ahead, the model for itself, and the prompt,
in turns: tokens per second, and how many guesses were right. Greedy answers are of no use for the first part: after one
other token they have no more to do with one another.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import anyio
import lab
from engines import stored

from catena.core.messages import CompletionRequest, Delta, Sampling, TokeniseRequest
from catena.core.protocols import Placement
from catena.run.engines import llama_cpp

TEXT = Path(__file__).parent.parent / "ARCHITECTURE.md"
FIRST, PLACES, TOKENS = 200, 200, 1024
KINDS = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


async def nexts(session: Any, ids: tuple[int, ...]) -> list[dict[str, float]]:
    """The likeliest next tokens with their probabilities, after each of the first FIRST to FIRST + PLACES tokens."""
    found: list[dict[str, float]] = []
    for place in range(FIRST, FIRST + PLACES):
        request = CompletionRequest(
            "m", ids[:place], Sampling(max_tokens=1, temperature=0.0, logprobs=5, ignore_eos=True)
        )
        async for event in session.generate(request):
            if isinstance(event, Delta) and event.logprobs:
                found.append({top.token: math.exp(top.logprob) for top in event.logprobs[0].top})
    return found


async def measure(model: Any, folder: str) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    base: list[dict[str, float]] = []
    for kind in KINDS:
        place = Placement(threads=1, slots=1, context_tokens=TOKENS, folder=folder, kv_type=kind, prompt_cache_bytes=0)
        session = await llama_cpp.Engine().load(model, place)
        ids = (await session.tokenise(TokeniseRequest("m", TEXT.read_text()))).ids
        found = await nexts(session, ids)
        memory_bytes = session.facts.memory_bytes
        await session.close()
        base = base or found
        pairs = [
            (max(one, key=one.__getitem__), one, other) for one, other in zip(base, found, strict=True) if one and other
        ]
        rows[kind] = {
            "memory_mb": round(memory_bytes / 1e6, 1),
            "places": len(pairs),
            "same_token": round(
                sum(max(other, key=other.__getitem__) == best for best, _, other in pairs) / len(pairs), 3
            ),
            "probability_moved": round(
                sum(abs(one[best] - other.get(best, 0.0)) for best, one, other in pairs) / len(pairs), 4
            ),
        }
    return rows


DRAFTERS: dict[str, dict[str, Any]] = {"none": {}, "itself": {}, "prompt": {"drafts_from_prompt": True}}
LIST = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"
ASKED = {"prose": "The history of Rome begins with", "copying": f"Copy this.\n{LIST}\n{LIST}\nalpha beta gamma"}
ROUNDS, ANSWER_TOKENS = 3, 48


async def drafting(model: Any, folder: str) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    speeds: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name, given in DRAFTERS.items():
            fields = {"draft": model} if name == "itself" else given
            place = Placement(threads=1, slots=1, context_tokens=TOKENS, folder=folder, **fields)
            session = await llama_cpp.Engine().load(model, place)
            for what, prompt in ASKED.items():
                sampling = Sampling(max_tokens=ANSWER_TOKENS, temperature=0.0)
                events = [event async for event in session.generate(CompletionRequest("m", prompt, sampling))]
                usage, timings = events[-2:]
                speeds.setdefault((name, what), []).append(usage.completion_tokens / timings.decode_s)
                text = "".join(event.text for event in events if isinstance(event, Delta))
                rows[f"{name}, {what}"] = {"drafted": timings.drafted, "accepted": timings.accepted, "text": text}
            await session.close()
    for (name, what), found in speeds.items():
        row = rows[f"{name}, {what}"]
        row["is_same_answer"] = row["text"] == rows[f"none, {what}"]["text"]
        row["tokens_per_s"] = lab.median(found)
        row["against_none"] = round(lab.median(found) / lab.median(speeds["none", what]), 2)
    return {name: {key: value for key, value in row.items() if key != "text"} for name, row in rows.items()}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
        home = Path(os.environ.get("CATENA_TEST_HOME") or scratch)
        [model] = stored(home, "smollm2-135m-instruct")
        drafts = anyio.run(drafting, model, scratch)
        lab.save("caches", {"kinds": anyio.run(measure, model, scratch), "drafts": drafts})


if __name__ == "__main__":
    main()
