"""One question to a model through the gateway, and everything that came back with the answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from catena.reach import door

KEY_VARIABLE = "CATENA_API_KEY"

NO_TEXT: Callable[[str], None] = lambda _: None  # noqa: E731


class Asked(Struct, frozen=True):
    """The answer with what the contract of `catena ask --json` names."""

    answer: str
    model: str
    digest: str | None
    decision: dict[str, Any]
    receipt: str
    usage: dict[str, Any] | None
    timings: dict[str, Any]


def ask(
    url: str,
    body: dict[str, Any],
    *,
    on_text: Callable[[str], None] = NO_TEXT,
    on_wait: Callable[[str], None] = NO_TEXT,
) -> Asked:
    """Stream a chat completion of `body` from the gateway at `url`; `on_text` gets the pieces, `on_wait` signs of life.

    The API key, where one is needed, comes from the environment (KEY_VARIABLE). Raises what reach.door raises.
    """
    key = os.environ.get(KEY_VARIABLE)
    pieces: list[str] = []
    usage: dict[str, Any] | None = None
    receipt = model = ""
    request = {**body, "stream": True, "stream_options": {"include_usage": True}}
    for item in door.stream(url, "/v1/chat/completions", request, key=key):
        if isinstance(item, door.Response):
            receipt = item.headers.get("catena-receipt", "")
        elif isinstance(item, str):
            on_wait(item)
        else:
            model = item.get("model", model)
            usage = item.get("usage") or usage
            for choice in item["choices"]:
                if text := choice["delta"].get("content"):
                    pieces.append(text)
                    on_text(text)
    record = door.get(url, f"/catena/v1/receipts/{receipt}", key=key).body
    decision, closed = record["opened"]["decision"], record["closed"] or {}
    timings = closed.get("timings", {})
    return Asked("".join(pieces), model, decision.get("model_digest"), decision, receipt, usage, timings)
