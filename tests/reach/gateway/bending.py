"""Bodies that are nearly good: values changed, left out, added or moved, and bytes broken."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 2**64, -(2**70), 1e308, 0.5, "", "x", "\x00", "é\U0001f600", "auto", "tool",
    [], [[]], {}, {"type": "text"}, {"type": 5}, {"": None}, ["x"], [None], [{}], "http://127.0.0.1/", "a" * 5000,
]  # fmt: skip
SCRAPS = (b'"', b"{", b"[", b"}", b",", b"\\", b"\xff", b"null", b"1e999", b"\x00")


def bent(body: Any, source: random.Random, *, names: Sequence[str], values: Sequence[Any]) -> bytes:
    """`body` bent in one to three places, one time in five with broken bytes.

    `names` are those of fields that may be added; `values`, and ODD ones, stand in the place of others.
    """
    body = json.loads(json.dumps(body))
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        _bend(body, source, names, values)
    raw = bytearray(json.dumps(body, ensure_ascii=source.random() < 0.5).encode())
    if source.random() < 0.2:
        for _ in range(source.randrange(1, 6)):
            place = source.randrange(len(raw) + 1)
            raw[place : place + source.choice((0, 0, 1, 2, 8))] = source.choice(
                (b"", bytes((source.randrange(256),)), *SCRAPS)
            )
    return bytes(raw)


def _bend(body: Any, source: random.Random, names: Sequence[str], values: Sequence[Any]) -> None:
    nodes: list[Any] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict | list):
            nodes.append(node)
            for value in node.values() if isinstance(node, dict) else node:
                walk(value)

    walk(body)
    node = source.choice(nodes)
    keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
    value = json.loads(json.dumps(source.choice([*ODD, *nodes] if source.random() < 0.8 else values)))
    if isinstance(node, dict) and (not keys or source.random() < 0.3):
        node[source.choice(names)] = value
    elif not keys:
        node.append(value)
    elif source.random() < 0.3:
        del node[source.choice(keys)]
    else:
        node[source.choice(keys)] = value
