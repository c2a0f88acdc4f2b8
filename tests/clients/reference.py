"""Writes docs/reference/openai.md: the parameters of every route, and the requirements that tests prove.

Usage: python -m tests.clients.reference
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from tests.clients import test_openai_errors, test_openai_requirements, test_openai_routes
from tests.clients.conftest import Requirement

from catena.reach.gateway.protocols.openai import fields

SUITE = (test_openai_requirements, test_openai_routes, test_openai_errors)
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
comment lines (`: queued`, `: loading`, `: prefill`), which clients skip.

A parameter that is in none of these tables is refused with the nearest known name (`unknown_parameter`). `null` is as
good as leaving a parameter out.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for route, table in fields.TABLES.items():
        parts.append(f"\n## {route}\n\n| parameter | | |\n|---|---|---|")
        for name, field in table.items():
            harmless = [value for value in field.harmless if value not in ("", {}, [])]
            note = field.note + (
                f"; without effect: {', '.join(_shown(value) for value in harmless)}" if harmless else ""
            )
            parts.append(f"| `{name}` | {WORDS[field.treatment]} | {note} |")
    rows = requirements()
    parts.append(
        f"\n## Requirements\n\nThe official Python client proves these {len(rows)} against a running gateway.\n"
    )
    parts.append("| id | topic | what must hold | test |\n|---|---|---|---|")
    parts += [f"| {row.id} | {row.topic} | {row.sentence} | `{test}` |" for row, test in rows]
    return "\n".join(parts) + "\n"


def requirements() -> list[tuple[Requirement, str]]:
    """Every requirement with the name of its test, in the order of the files."""
    found: list[tuple[Requirement, str]] = []
    for module in SUITE:
        for name, test in inspect.getmembers(module, inspect.isfunction):
            row = getattr(test, "requirement", None)
            if isinstance(row, Requirement) and test.__module__ == module.__name__:
                found.append((row, name))
    return sorted(found, key=lambda pair: pair[0].id)


def _shown(value: Any) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
