"""A gateway behind a gateway: what we say in each dialect is what our own protocols take, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.matrix.conftest import Matrix, up
from tests.matrix.doors import DOORS
from tests.matrix.wish import Function, Wish

# Where each dialect finds the protocol that speaks it.
BASES = {"openai": "/v1", "anthropic": "", "ollama": "", "open_inference": ""}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """A gateway whose providers are all one other gateway, which has the echo model."""
    with ExitStack() as stack:
        host, port = stack.enter_context(up(tmp_path_factory.mktemp("behind"), {}, with_echo=True))
        bases = {kind: f"http://{host}:{port}{base}" for kind, base in BASES.items()}
        yield Matrix(*stack.enter_context(up(tmp_path_factory.mktemp("front"), bases)), {})


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("door", DOORS)
def test_a_text_passes_both_gateways_as_it_is(front: Matrix, door: str, kind: str) -> None:
    text = "Grüezi, \n\n  wohl! 你好 \u2028 🙂"
    seen = front.ask(door, kind, Wish("echo", text, max_tokens=64))
    assert (seen.status, seen.is_whole, seen.text) == (200, True, text), seen


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_forced_call_passes_both_gateways_with_its_id(front: Matrix, kind: str) -> None:
    body = front.body("anthropic", kind, Wish("echo", tools=(Function("weather", "of a city"),)))
    seen = front.send("anthropic", {**body, "tool_choice": {"type": "any"}})
    (call,) = seen.calls
    assert (call.name, call.arguments, seen.finish) == ("weather", {}, "tool_use") and call.id
    assert front.send("anthropic", DOORS["anthropic"].follow(body, seen, ["rain"])).status == 200


@pytest.mark.parametrize("kind", BASES)
def test_a_refusal_behind_is_a_refusal_in_front(front: Matrix, kind: str) -> None:
    seen = front.ask("openai", kind, Wish("nobody"))
    assert seen.status == 404 and "not_found" in (seen.error or ""), seen
