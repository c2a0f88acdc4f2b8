"""Writes docs/reference/openai.md, and with it the page of every other protocol: parameters, proved requirements.

Usage: python -m tests.clients.reference
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.clients import (
    test_openai_batches,
    test_openai_classify,
    test_openai_errors,
    test_openai_files,
    test_openai_requirements,
    test_openai_rerank,
    test_openai_responses,
    test_openai_responses_kept,
    test_openai_routes,
    test_openai_speech,
    test_openai_tokens,
)
from tests.clients.conftest import Requirement
from tests.clients.openai import test_javascript

from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.responses.fields import TABLES as RESPONSES
from catena.reach.gateway.wire import Field

SUITE = (
    test_openai_requirements,
    test_openai_routes,
    test_openai_errors,
    test_openai_files,
    test_openai_batches,
    test_openai_tokens,
    test_openai_responses,
    test_openai_responses_kept,
    test_javascript,
    test_openai_rerank,
    test_openai_classify,
    test_openai_speech,
)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "openai.md"
WORDS = {"honoured": "honoured", "ignored": "accepted, named in `catena-warning`", "refused": "refused (400)"}

HEAD = """\
# The OpenAI protocol

Made by `python -m tests.clients.reference` from the tables in the code and from the tests; a test keeps it current.

Point a client at `http://127.0.0.1:7411/v1`. On loopback any API key will do, except a wrong one of ours (`ctn_…`);
beyond loopback a key is needed: `catena keys add NAME`.

## What every answer carries

| header | meaning |
|---|---|
| `catena-receipt` | the receipt of this answer, also of an error once it was recorded: `GET /catena/v1/receipts/{id}` |
| `catena-warning` | parameters that were accepted but not honoured, with the reason |
| `x-request-id` | names this request in the gateway's log |
| `server-timing` | milliseconds in queue, loading, prefill, decode and the gateway (answers at once) |
| `retry-after` | on 429 and 503: seconds until another try may succeed |
| `x-should-retry: false` | on errors after work was done: the official client would repeat it by itself |

Errors have the body `{"error": {"message", "type", "param", "code", "hint"}}`. Until the first token, or one second,
an error is an HTTP error also for a stream; after that it is an event `data: {"error": …}` and no `[DONE]` follows. A
clean end means that the record of the answer is closed. While a model loads or reads a long prompt, a stream shows
comment lines (`: queued`, `: loading`, `: prefill`), which clients skip. A first example:
[guides/openai.md](../guides/openai.md).

A parameter that is in none of these tables is refused with the nearest known name (`unknown_parameter`). `null` is as
good as leaving a parameter out.

## Responses: where this differs from the original

| topic | here |
|---|---|
| routes | `/v1/responses`, `/{id}`, `/{id}/cancel`, `/{id}/input_items`, `/input_tokens`; `compact` is refused, and there are no WebSockets |
| ids | `resp_` is followed by the end of the receipt; `catena.receipt` names it in every response, also a kept one |
| keeping | with `store`, the response and its items are durable before the last event is sent, for `reach.responses_keep_s` (30 days), and of each key the newest that fit in `reach.max_responses_bytes` (256 MiB). They belong to the key that made them: another finds nothing (404). They lie in `responses.db` in the state folder, never in a log; deleting overwrites them there and in its journal |
| `previous_response_id` | goes through the kept responses before it; when one of them is gone, the question is refused (`previous_response_not_found`), never cut short |
| foreground | a response can be found once it has ended, however it ended; a client that leaves cancels it |
| background | recorded and kept before it comes back as `queued`; at most `reach.max_background` (16) for a key, each at most `reach.background_timeout_s` (1 hour). What a stop of the gateway cuts is `failed`; so is, from the next start, what a kill cut |
| resuming | a response made with `background` and `stream` can be followed after any event, also when it has ended |
| failure in a stream | `response.failed` with the response, then `error`, which makes clients raise; a cancelled one has `error` only |
| `input_items` | what was sent with this question, not with those before it; a `next` page begins after `last_id` |
| reasoning | comes whole and in the open, in `content`; `encrypted_content` is only what the maker of a remote model wants back |
| `temperature`, `top_p` | null in a response when question and preset left them to the engine |
| calls and forms | tools and a form of the answer exclude one another in one question |
"""  # noqa: E501


def page() -> str:
    """The whole page."""
    parts = [HEAD, *parameters({**fields.TABLES, **RESPONSES})]
    rows = requirements()
    who = "The official clients, Python and JavaScript,"
    parts.append(f"\n## Requirements\n\n{who} prove these {len(rows)} against a running gateway.\n")
    return "\n".join([*parts, *proofs(rows)]) + "\n"


def requirements() -> list[tuple[Requirement, str]]:
    """Every requirement of this page."""
    return proved(SUITE)


def parameters(tables: Mapping[str, Mapping[str, Field]]) -> list[str]:
    """A section per table: each parameter, what becomes of it, and which values pass without effect."""
    parts: list[str] = []
    for title, table in tables.items():
        parts.append(f"\n## {title}\n\n| parameter | | |\n|---|---|---|")
        for name, field in table.items():
            harmless = [_shown(value) for value in field.harmless if value not in ("", {}, [])]
            note = field.note + (f"; without effect: {', '.join(harmless)}" if harmless else "")
            parts.append(f"| `{name}` | {WORDS[field.treatment]} | {note} |")
    return parts


def proved(suite: Iterable[ModuleType]) -> list[tuple[Requirement, str]]:
    """Every requirement that the tests of `suite` prove, with the name of its test, by id."""
    found: list[tuple[Requirement, str]] = []
    for module in suite:
        for name, test in inspect.getmembers(module, inspect.isfunction):
            row = getattr(test, "requirement", None)
            if isinstance(row, Requirement) and test.__module__ == module.__name__:
                found.append((row, name))
    return sorted(found, key=lambda pair: pair[0].id)


def proofs(rows: list[tuple[Requirement, str]]) -> list[str]:
    """The table of requirements."""
    head = "| id | topic | what must hold | test |\n|---|---|---|---|"
    return [head, *[f"| {row.id} | {row.topic} | {row.sentence} | `{test}` |" for row, test in rows]]


def pages() -> dict[Path, str]:
    """Every page of this kind: this one, and that of each client's folder with a `reference` of its own."""
    found = {PAGE: page()}
    for path in sorted(Path(__file__).parent.glob("*/reference.py")):
        other: Any = importlib.import_module(f"tests.clients.{path.parent.name}.reference")
        found[other.PAGE] = other.page()
    return found


def _shown(value: Any) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    for place, text in pages().items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
