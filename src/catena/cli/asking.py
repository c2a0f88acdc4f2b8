"""One question to a model through the gateway, and everything that came back with the answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from catena.cli.serving import gateway
from catena.core import config
from catena.core.errors import NetworkError
from catena.reach import door
from catena.watch.log import AuditReader

# A gateway that another command brought along may go while we ask; then there is another, or one of our own.
TRIES = 3
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

    The API key, where one is needed, comes from the environment (KEY_VARIABLE); what was recorded is read from the
    audit log of this state folder. Raises what reach.door raises.
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
    found = AuditReader.open(config.home() / "audit").find(receipt)
    decision = msgspec.to_builtins(found.opened.decision)
    timings = msgspec.to_builtins(found.closed.timings) if found.closed else {}
    return Asked("".join(pieces), model, found.opened.decision.model_digest, decision, receipt, usage, timings)


def ask_any(
    body: dict[str, Any],
    *,
    on_text: Callable[[str], None] = NO_TEXT,
    on_wait: Callable[[str], None] = NO_TEXT,
) -> Asked:
    """Ask the gateway that serves this state folder, or one started for this question; as `ask` in all else.

    Asks anew, unless text has arrived, when a gateway goes away in the meantime.
    """
    has_text = False

    def note(piece: str) -> None:
        nonlocal has_text
        has_text = True
        on_text(piece)

    for left in reversed(range(TRIES)):
        try:
            with gateway() as url:
                return ask(url, body, on_text=note, on_wait=on_wait)
        except NetworkError:
            if has_text or not left:
                raise
    raise AssertionError("the last try returns or raises")
