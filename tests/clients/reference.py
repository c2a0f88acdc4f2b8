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
    test_openai_errors,
    test_openai_files,
    test_openai_requirements,
    test_openai_routes,
)
from tests.clients.conftest import Requirement

from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.wire import Field

SUITE = (test_openai_requirements, test_openai_routes, test_openai_errors, test_openai_files, test_openai_batches)
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
    parts = [HEAD, *parameters(fields.TABLES)]
    rows = requirements()
    parts.append(
        f"\n## Requirements\n\nThe official Python client proves these {len(rows)} against a running gateway.\n"
    )
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
