"""Answers bent at random: each reader gives events or an error of ours, soon, and keeps nothing without bound."""

from __future__ import annotations

import contextlib
import importlib
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.answers import Answer, Asked, Call
from tests.run.dialects.playing import RECORDED, gathered, play

from catena.core.errors import CatenaError
from catena.core.messages import ChatRequest, EmbedRequest, Message, PredictRequest, Sampling, Text
from catena.core.messages.reply import canonical_bytes
from catena.run.dialects import anthropic, gemini, ollama, open_inference, openai
from catena.run.dialects.dialect import Dialect

DIALECTS: dict[str, Dialect] = {
    one.dialect.name: one.dialect for one in (anthropic, gemini, ollama, open_inference, openai)
}
REQUEST = ChatRequest("m", (Message("user", (Text("Hi"),)),), Sampling())
RICH = Answer(reasoning=("a", "b"), calls=(Call("c1", "f", ('{"a":', "1}")), Call("c2", "g", ())), reasoning_tokens=1)


def said(name: str) -> bytes:
    """What the test provider says in this dialect, with as much in it as the dialect has words for."""
    out = DIALECTS[name].generate(REQUEST, "m")
    speaker = importlib.import_module(f"tests.providers.{name}").speaker
    headers = {**DIALECTS[name].headers("k"), **out.headers}
    return b"".join(speaker.reply(Asked(out.method, speaker.base + out.path, headers, out.body), RICH).pieces)


BODIES = {path.name: path.read_bytes() for path in sorted(RECORDED.iterdir())}
BODIES |= {f"{name}_said": said(name) for name in DIALECTS}
WORDS = (b"null", b"-1", b"1e400", b"[]", b"{}", b'""', b'"\\ud800"', b"99999999999999999999", b"[" * 3000, b"\xff\xfe")
MAX_BYTES = 4 << 20


def bent(body: bytes, dice: random.Random) -> bytes:
    """`body` with up to four changes: bytes turned, pieces dropped, doubled or moved, values replaced by odd ones."""
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(body) + 1)
        end = min(len(body), start + dice.choice((1, 2, 16, 400)))
        piece = dice.choice((b"", body[start:end] * 2, dice.choice(WORDS), dice.randbytes(3), body[:end]))
        body = body[:start] + piece + body[end:]
    return body


@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_bent_stream_gives_events_or_an_error_of_ours(name: str) -> None:
    dialect = next(one for known, one in DIALECTS.items() if name.startswith(f"{known}_"))
    for seed in range(300):
        dice = random.Random(f"{name} {seed}")
        with contextlib.suppress(CatenaError):
            canonical_bytes(gathered(play(dialect, REQUEST, bent(BODIES[name], dice), size=dice.choice((1, 50, 4096)))))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(DIALECTS)), st.binary(max_size=200), st.sampled_from(["", "error", "message_start"]))
def test_any_bytes_give_events_or_an_error_of_ours(name: str, data: bytes, event: str) -> None:
    dialect = DIALECTS[name]
    answer = dialect.incoming(REQUEST)
    embed, predict = EmbedRequest("m", ("a",)), PredictRequest("m", ())
    for read in (
        lambda: list(answer.read(event, data)),
        lambda: list(answer.end()),
        lambda: dialect.listed(data),
        lambda: dialect.embedded(data, embed),
        lambda: dialect.predicted(data, {"inference-header-content-length": "3"}, predict),
    ):
        with contextlib.suppress(CatenaError):
            read()
    assert isinstance(dialect.error(400, {"retry-after": data.decode("latin-1")}, data), CatenaError)


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("anthropic", b'data: {"type":"ping"}\n\n'),
        ("gemini", b'data: {"candidates":[{"content":{"parts":[{"text":"x","thoughtSignature":"y"}]}}]}\n\n'),
        ("open_inference", b'data: {"text_output":"x"}\n\n'),
        ("openai", b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'),
        ("ollama", b'{"message":{"role":"assistant","content":"x"},"done":false}\n'),
    ],
)
def test_an_endless_stream_is_read_in_little_memory(name: str, piece: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(CatenaError):
            for _ in play(DIALECTS[name], REQUEST, piece * 6_000, size=1 << 14):
                pass
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
