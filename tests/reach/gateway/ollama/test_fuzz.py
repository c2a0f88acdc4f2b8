"""Whatever is sent to /api, the answer is never our own failure: 2xx or 4xx, and every error is one text."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.reach.gateway.ollama.conftest import lines, open_door

from catena.core.settings import StoreSettings
from catena.reach.gateway.protocols.ollama import fields
from catena.store import Store
from catena.watch.keys import Signer

NUM_BODIES = 3000
GOOD: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/chat"): {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
    ("POST", "/api/generate"): {"model": "tiny", "prompt": "hi"},
    ("POST", "/api/embed"): {"model": "tiny", "input": "hi"},
    ("POST", "/api/embeddings"): {"model": "tiny", "prompt": "hi"},
    ("POST", "/api/show"): {"model": "tiny"},
    ("POST", "/api/copy"): {"source": "nope", "destination": "x"},
    ("DELETE", "/api/delete"): {"model": "nope"},
    ("POST", "/api/create"): {"model": "x", "from": "nope", "stream": False},
    ("POST", "/api/pull"): {"model": "nope", "stream": False},
}
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 1e300, -0.5, 10**30, "", "x", "json", "5m", "-1", "tiny", "tiny:latest", "a:b", "é",
    "\x00", "../..", "x" * 300, [], {}, [[]], [None], ["x"], {"a": 1}, {"type": "object"}, {"$ref": "http://x"},
    {"role": "user"}, [{"role": "tool", "content": "x"}], [{"role": "user", "content": "x", "images": ["aGk="]}],
    [{"function": {"name": "f", "parameters": {"type": "object"}}}], {"temperature": "hot"}, {"stop": [1]},
    {"num_ctx": -1}, {"seed": 10**20}, {"function": {"name": "f"}}, {"a": "sha256:" + "0" * 64}, "{{ .Prompt }}",
)  # fmt: skip


def body(draw: random.Random, good: dict[str, Any], names: list[str]) -> bytes:
    """One body: of known names with odd values, of any JSON, or of bytes that were JSON."""
    kind = draw.random()
    value: Any = {**good, **{draw.choice(names): draw.choice(LEAVES) for _ in range(draw.randint(1, 3))}}
    if kind < 0.6:
        return json.dumps(value).encode()
    if kind < 0.7:
        value[draw.choice(("x", "modle", "", "é"))] = draw.choice(LEAVES)
        return json.dumps(value).encode()
    if kind < 0.8:
        return json.dumps(draw.choice(LEAVES)).encode()
    raw = bytearray(json.dumps(value).encode())
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(raw) + 1)
        match draw.randrange(3):
            case 0:
                raw[place:place] = draw.choice((b"{", b"[", b'"', b"\x00", b"\xff", b",", b"1e999", b"[" * 70))
            case 1:
                del raw[place : place + draw.randint(1, 9)]
            case _:
                raw[place : place + 1] = bytes((draw.randrange(256),))
    return bytes(raw)


def fuzz(home: Path, num_bodies: int, seed: int) -> dict[int, int]:
    """Ask with `num_bodies` bodies; how often each status came. AssertionError for an answer that should not be."""
    draw, counts = random.Random(seed), dict[int, int]()
    store = Store.open(home, StoreSettings(), Signer.open(home))
    door = open_door(store)

    async def run() -> None:
        for _ in range(num_bodies):
            (method, path), good = draw.choice(list(GOOD.items()))
            names = sorted(fields.TABLES[f"{method} {path}"])
            sent = body(draw, good, names)
            response = await door.ask(method, path, sent, headers={"content-type": "application/json"})
            counts[response.status] = counts.get(response.status, 0) + 1
            assert 200 <= response.status < 500, (path, sent, response.body)
            if response.status >= 400:
                assert isinstance(response.error, str), (path, sent)
                assert response.error, (path, sent)
            elif response.headers["content-type"] == "application/x-ndjson":
                last = lines(response.body)[-1]
                assert last.get("done") or last.get("error") or last.get("status") == "success", (path, sent)

    anyio.run(run)
    assert store.models() == []
    store.close()
    return counts


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_whatever_is_sent_the_answer_is_an_answer(home: Path) -> None:
    counts = fuzz(home, NUM_BODIES, seed=7411)
    assert counts[200] > NUM_BODIES / 20
    assert counts[400] > NUM_BODIES / 3


@pytest.mark.parametrize("asked", [key for key in GOOD if "nope" not in str(GOOD[key])])
def test_the_good_request_that_the_others_start_from_is_good(asked: tuple[str, str]) -> None:
    door = open_door(None)

    async def once() -> Any:
        return await door.ask(*asked, GOOD[asked])

    assert anyio.run(once).status == 200
