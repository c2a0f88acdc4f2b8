"""What `infer` has done, by model: counts and nanoseconds of requests, rows and runs, since the gateway started.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from catena.core.messages import Prediction
from catena.reach.gateway.application import Gateway
from catena.reach.gateway.exchange import Exchange

PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
MAX_BATCHES = 256


class Counts:
    """The numbers of one model. `parts` and `batches` hold count and nanoseconds."""

    __slots__ = ("batches", "last_ms", "num_rows", "num_runs", "parts")

    def __init__(self) -> None:
        self.last_ms = self.num_rows = self.num_runs = 0
        self.parts = {name: [0, 0] for name in PARTS}
        self.batches: dict[int, list[int]] = {}

    def note(self, prediction: Prediction, read_ns: int, write_ns: int, total_ns: int) -> None:
        """Count one answered request; reading it took `read_ns`, writing its answer `write_ns`, all `total_ns`."""
        timings = prediction.timings
        queued_ns = int((timings.queued_s + timings.loading_s + timings.prefill_s) * 1e9)
        infer_ns = int(timings.decode_s * 1e9)
        for name, spent_ns in zip(PARTS, (total_ns, None, queued_ns, read_ns, infer_ns, write_ns), strict=True):
            if spent_ns is not None:
                part = self.parts[name]
                part[0] += 1
                part[1] += spent_ns
        self.last_ms = time.time_ns() // 1_000_000
        self.num_rows += prediction.num_rows
        if prediction.is_first:
            self.num_runs += 1
            if prediction.run_rows in self.batches or len(self.batches) < MAX_BATCHES:
                batch = self.batches.setdefault(prediction.run_rows, [0, 0])
                batch[0] += 1
                batch[1] += infer_ns

    def fail(self, total_ns: int) -> None:
        """Count one request that ended in an error."""
        self.parts["fail"][0] += 1
        self.parts["fail"][1] += total_ns

    def form(self, name: str) -> dict[str, Any]:
        """These numbers as the protocol writes them."""
        return {
            "name": name,
            "version": "1",
            "last_inference": self.last_ms,
            "inference_count": self.num_rows,
            "execution_count": self.num_runs,
            "inference_stats": {name: _duration(pair) for name, pair in self.parts.items()}
            | {"cache_hit": _duration((0, 0)), "cache_miss": _duration((0, 0))},
            "batch_stats": [
                {"batch_size": size, "compute_infer": _duration(pair)} for size, pair in sorted(self.batches.items())
            ],
        }


_counts: WeakKeyDictionary[Gateway, dict[str, Counts]] = WeakKeyDictionary()


def counts(exchange: Exchange, name: str) -> Counts:
    """The numbers of the model called `name`, which is one that exists, at this gateway."""
    by_name = _counts.setdefault(exchange.scope["catena.gateway"], {})
    found = by_name.get(name)
    if found is None:
        found = by_name[name] = Counts()
    return found


def _duration(pair: list[int] | tuple[int, int]) -> dict[str, int]:
    return {"count": pair[0], "ns": pair[1]}
