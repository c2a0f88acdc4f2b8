"""Writes docs/protocols/anthropic.md: what becomes of every parameter, and the requirements that tests prove.

Usage: python -m tests.clients.reference, which writes the pages of all protocols.
"""

from __future__ import annotations

from pathlib import Path

from tests.clients.anthropic import test_errors, test_javascript, test_messages, test_tools
from tests.clients.conftest import Requirement
from tests.clients.reference import parameters, proofs, proved

from catena.reach.gateway.protocols.anthropic import fields, routes

SUITE = (test_messages, test_tools, test_errors, test_javascript)
PAGE = Path(__file__).parents[3] / "docs" / "protocols" / "anthropic.md"

HEAD = """\
# The Anthropic Messages protocol

Made by `python -m tests.clients.reference` from the tables in the code and from the tests; a test keeps it current. A
first example: [guides/anthropic.md](../guides/anthropic.md).

Point a client at `http://127.0.0.1:7411` (`ANTHROPIC_BASE_URL`). On loopback any API key will do, except a wrong one of
ours (`ctn_…`); beyond loopback a key is needed: `catena keys add NAME`. It is read from `Authorization: Bearer` and
from `x-api-key`.

## Where this differs from the original

| topic | here |
|---|---|
| versions | `2026-10-21` and `2023-06-01` are answered alike, and a request without `anthropic-version` too. `temperature`, `top_p` and `top_k` are honoured in both, though the newer one has them no more |
| models | the list shows models that generate, by name; `capabilities` is null. The OpenAI protocol has the same addresses: a request with `anthropic-version` gets this form |
| `message_start` | its usage is 0, since a stream begins before the prompt is counted; `message_delta` has every number |
| usage | `input_tokens` leaves out what was read from the cache, as in the original; `cache_creation_input_tokens` is always 0 |
| `max_tokens` | may exceed what the prompt leaves of the context: the answer then ends there with `model_context_window_exceeded`. A prompt that alone is too long is refused with both numbers, never cut |
| stop sequences | the engine tells which one ended an answer; an engine that cannot tell (a plug-in) ends with `end_turn` |
| `pause_turn` | never: nothing runs here that could pause |
| `refusal` | when the engine reports a filter; no engine of ours has one |
| thinking | shown whole, never summarised. The signature is the receipt of the answer with an HMAC under a secret of this machine: nothing is stored. It also carries what the maker of a remote model signed, so that its own thinking goes back to it unchanged. A block that comes back changed is refused; one that another model made is left out with a warning |
| prefill | a conversation that ends with a turn of the assistant is refused, as by newer models of the original |
| turns | of one role that follow one another are joined by an empty line; blocks of one turn are joined as they are |
| `is_error` | puts `Error: ` before the content of the result, as a model is told in words only |
| tools | calls of one answer come one after the other. Where a model was cut in the middle of a call, its `input` holds what stands; arguments that are no JSON object are an error, never an empty object |
| images | by value only, and only for models that read images: nothing is ever fetched. PDFs are not read |
| count_tokens | exact: the model's own template and tokens. It is recorded like a question (task `count`, without usage), because it takes a turn at the model, may load it, and its answer depends on what was asked. Nothing of an answer is computed |
| signs of life | while a model loads or reads a long prompt, and in every long silence, a stream has `ping` events; a comment line before them says why (`: loading`) |

## What every answer carries

| header | meaning |
|---|---|
| `catena-receipt` | the receipt of this answer, also of an error once it was recorded: `GET /catena/v1/receipts/{id}`; the id of the message is made of it |
| `catena-warning` | what was accepted but not honoured, or left out, with the reason |
| `request-id` | names this request in the gateway's log |
| `retry-after` | on 429 and 503: seconds until another try may succeed |
| `x-should-retry: false` | on errors after work was done: the official clients would repeat it by themselves |

Errors have the body `{"type": "error", "error": {"type", "message", "details": {"error_code", "param", "hint"}}}`.
Until the first token, or one second, an error is an HTTP error also for a stream; after that it is an event `error`, and
no `message_stop` follows. A clean end means that the record of the answer is closed. An address that is not here answers
in this form to a request with `anthropic-version`.

| status | `error.type` |
|---|---|
| 400, 405, 415, 422 | `invalid_request_error` |
| 401 | `authentication_error` |
| 403 | `permission_error` |
| 404 | `not_found_error` |
| 409 | `conflict_error` |
| 413 | `request_too_large` |
| 429 | `rate_limit_error` |
| 500, 501, 502 | `api_error` |
| 503 | `overloaded_error` when memory is short or the gateway stops, `api_error` when no record can be written |
| 408, 504 | `timeout_error` |

A parameter that is in none of these tables is refused with the nearest known name. `null` is as good as leaving a
parameter out.

## Routes

| route | for |
|---|---|
"""  # noqa: E501


def page() -> str:
    """The whole page."""
    rows = requirements()
    lines = [f"| `{route.method} {route.pattern}` | {_condition(route.header)} |" for route in routes]
    parts = [HEAD + "\n".join(lines), *parameters(fields.TABLES)]
    parts.append(f"\n## Requirements\n\nThe official clients prove these {len(rows)} against a running gateway.\n")
    return "\n".join([*parts, *proofs(rows)]) + "\n"


def requirements() -> list[tuple[Requirement, str]]:
    """Every requirement of this page."""
    return proved(SUITE)


def _condition(header: str | None) -> str:
    return f"requests with the header `{header}`" if header else "every request"
