"""Whatever is sent, the answer is never a failure of ours: it is a message, or an error in the protocol's own shape.

Usage, for more than the suite asks: python -m tests.reach.gateway.anthropic.test_fuzz [number of bodies]
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

import anyio
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.anthropic.conftest import ADD, ASK, checked, parsed
from tests.reach.gateway.bending import bent
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script

from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create
from catena.reach.gateway.protocols.anthropic import fields

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
NUM_BODIES = 2000
KINDS = frozenset(
    [
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "conflict_error",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
    ]
)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "3"}], "is_error": True}
# One body with everything in it, from which the others are bent.
FULL: dict[str, Any] = {
    **ASK,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}, IMAGE]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "h", "signature": "s"}, USE]},
        {"role": "user", "content": [RESULT, DOCUMENT]},
    ],
    "system": [{"type": "text", "text": "Be short."}],
    "tools": [ADD],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "stream": False,
}
NAMES = ["type", "colour", "stream", *fields.MESSAGE, *fields.TOOL, *fields.BETAS]


def new_door() -> Door:
    """A gateway of its own that says hello."""
    script = Script()
    rows = [Row("tiny", MODEL.digest, (), MODEL.manifest)]
    return Door(create(script, ReachSettings(), Access(Memory()), models=lambda: rows), script, Access(Memory()), Log())


def check(response: Any) -> str:
    """A message, or an error of the caller in the protocol's own shape; tells which."""
    if response.status == 200:
        if response.headers["content-type"].startswith("text/event-stream"):
            checked(response.body)
        elif b'"input_tokens"' in response.body[:20]:
            assert response.json.keys() == {"input_tokens"}
        else:
            parsed(response.body)
        return "answered"
    assert 400 <= response.status < 500, response.body
    assert response.json["type"] == "error"
    assert response.error["type"] in KINDS
    assert response.error["message"]
    assert response.headers["request-id"]
    return f"{response.status} {response.error['details']['error_code']}"


def near(path: str, source: random.Random) -> bytes:
    """A body that is nearly good for `path`."""
    taken = fields.PROMPT if path.endswith("count_tokens") else fields.MESSAGE
    body = {name: value for name, value in FULL.items() if name in taken}
    return bent(body, source, names=NAMES, values=list(fields.BLOCKS))


async def fuzz(num_bodies: int, seed: int) -> Counter[str]:
    """Send `num_bodies` bent bodies; how many ended how."""
    source, door = random.Random(seed), new_door()
    found: Counter[str] = Counter()
    for index in range(num_bodies):
        path = PATHS[index % len(PATHS)]
        raw = near(path, source)
        try:
            found[check(await door.post(path, raw))] += 1
        except BaseException:
            print(raw)
            raise
        door.script.asked.clear()
        door.script.callers.clear()
        door.script.outcomes.clear()
    return found


def test_thousands_of_bent_bodies_are_answered_or_refused_in_the_shape_of_the_api() -> None:
    found = anyio.run(fuzz, NUM_BODIES, 7)
    assert sum(found.values()) == NUM_BODIES
    assert found["answered"] > NUM_BODIES // 20
    assert {"400 invalid_json", "400 unknown_parameter", "400 unsupported", "400 invalid_input"} <= set(found)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
ANYTHING = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=9), one, max_size=3), max_leaves=6
)
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ask(raw: bytes, **headers: str) -> Any:
    """One request to a gateway of its own."""

    async def once() -> Any:
        return await new_door().post(PATHS[0], raw, headers={name.replace("_", "-"): v for name, v in headers.items()})

    return anyio.run(once)


@QUICK
@given(st.sampled_from(sorted(fields.MESSAGE)), ANYTHING)
def test_any_value_of_any_parameter(name: str, value: Any) -> None:
    check(ask(msgspec.json.encode({**ASK, name: value})))


@QUICK
@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    check(ask(body))


@QUICK
@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40), st.sampled_from(["version", "beta"]))
def test_any_value_of_the_headers_of_the_protocol(value: str, name: str) -> None:
    check(ask(msgspec.json.encode(ASK), **{f"anthropic_{name}": value}))


def test_the_body_that_the_others_are_bent_from_is_good() -> None:
    assert check(ask(msgspec.json.encode(FULL))) == "answered"


if __name__ == "__main__":
    for how, count in anyio.run(fuzz, int((sys.argv[1:] or ["100000"])[0]), 1).most_common():
        print(f"{count:8} {how}")
