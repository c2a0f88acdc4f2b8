"""Writes docs/protocols/ollama.md: the parameters of every route, and the requirements that tests prove.

Usage: python -m tests.clients.ollama.reference
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from tests.clients.conftest import Requirement
from tests.clients.ollama import test_chat, test_generate, test_javascript, test_library
from tests.clients.reference import WORDS

from catena.reach.gateway.protocols.ollama import fields, routes

SUITE = (test_chat, test_generate, test_library, test_javascript)
PAGE = Path(__file__).parents[3] / "docs" / "protocols" / "ollama.md"

HEAD = """\
# The Ollama protocol

Made by `python -m tests.clients.ollama.reference` from the tables in the code and from the tests; a test keeps it
current. A first example: [guides/ollama.md](../guides/ollama.md).

Point a client at `http://127.0.0.1:7411` (`OLLAMA_HOST`). On loopback no key is needed; beyond loopback one is, sent as
`Authorization: Bearer ctn_…`, which the official clients take as a header.

## Where this differs from the original

| topic | here |
|---|---|
| names | `name` and `name:latest` are one; there are no other tags and no namespaces |
| prompts | never cut: one that does not fit is refused with both numbers; nothing is truncated before an embedding |
| unknown names | refused, with the nearest known one; what is known and not honoured is named in `catena-warning` |
| `num_ctx` | a model has one context for all requests: `run.context_tokens`, or what it was trained with |
| `template` | Jinja, as in the model's own files; belongs to a model, never to a request |
| `context` | not given out, not taken |
| `think` | on or off; degrees mean on. Thinking comes in `thinking`, without signature |
| tools | calls come whole, with `id` and `index` beside the arguments; `tool_choice` is an extension |
| cut calls | a call that `num_predict` cut is left out, and `done_reason` says `length` |
| `done_reason` | `stop`, `length`, `load`, `unload`; an answer that ends in calls says `stop` |
| `prompt_eval_count` | every token of the prompt, also those that were computed before |
| `/api/embeddings` | its vectors have length 1, as those of `/api/embed` |
| `/api/pull` | sources as `catena pull` takes them; no registry of the original is asked |
| `/api/create` | a signed manifest with its parents; what it sets holds in every protocol; no quantising |
| `/api/delete` | the name goes; `catena gc` frees the disk |
| `/api/push` | refused: nothing leaves this machine |
| `expires_at` | when a model goes if nobody uses it; one kept with -1 still gives way if its memory is needed |
| sign of life | while a model loads or reads, a stream carries single spaces, which belong to no line |

Pull, copy, delete, create and blobs change what others use, so they take the scope `manage`: this machine's own user
has it, a key gets it by `catena keys add NAME --scope ask --scope manage`. The same holds for `keep_alive`; without the
scope it is named in `catena-warning` and ignored. A path is pulled by this machine's own user only. A file sent to
`/api/blobs` is refused above `store.max_file_bytes`, has to arrive within `reach.body_timeout_s`, and is removed by
`catena gc` unless a model was made of it.

## What every answer carries

| header | meaning |
|---|---|
| `catena-receipt` | the receipt of this answer, also of an error once it was recorded: `GET /catena/v1/receipts/{id}` |
| `catena-warning` | what was accepted but not honoured, with the reason |
| `x-request-id` | names this request in the gateway's log |
| `retry-after` | on 429 and 503: seconds until another try may succeed |

Errors have the body `{"error": text, "code", "param"}`; the text holds what to do next. Until the first token, or one
second, an error is an HTTP error also for a stream; after that it is the last line, and no line says `done`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, "\n## Routes\n\n| route | scope |\n|---|---|"]
    parts += [f"| `{route.method} {route.pattern}` | `{route.scope}` |" for route in routes if "*" not in route.pattern]
    for route, table in fields.TABLES.items():
        parts.append(f"\n## {route}\n\n| parameter | | |\n|---|---|---|")
        for name, field in table.items():
            harmless = [value for value in field.harmless if value not in ("", {}, [])]
            without_effect = f"; without effect: {', '.join(map(_shown, harmless))}" if harmless else ""
            parts.append(f"| `{name}` | {WORDS[field.treatment]} | {field.note}{without_effect} |")
    rows = requirements()
    parts.append(f"\n## Requirements\n\nThe official clients prove these {len(rows)} against a running gateway.\n")
    parts.append("| id | topic | what must hold | test |\n|---|---|---|---|")
    parts += [f"| {row.id} | {row.topic} | {row.sentence} | `{test}` |" for row, test in rows]
    return "\n".join(parts) + "\n"


def requirements() -> list[tuple[Requirement, str]]:
    """Every requirement with the name of its test, by id."""
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
