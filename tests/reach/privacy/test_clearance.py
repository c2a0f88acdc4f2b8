"""Every piece of a request is considered before it may leave, and only what was cleared can."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from catena.core.errors import EngineError, RefusedError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Image,
    Label,
    Mark,
    Message,
    OutputFormat,
    PredictRequest,
    Sampling,
    Tensor,
    Text,
    Tool,
    ToolCall,
)
from catena.reach.privacy.clearance import Asker, Clearance, Gatekeeper, Verdict
from catena.reach.privacy.ledger import Ledger
from catena.reach.privacy.policy import Policy, Ruling
from catena.reach.privacy.spans import Span

SECRET = Label("secret")


class Judged(NamedTuple):
    is_private: bool
    reasons: tuple[str, ...] = ("it speaks of our payroll",)


class Scanner:
    """Finds `Ann Lee`, `sk-…` keys and `diabetes`; fails where it reads BROKEN."""

    def __init__(self) -> None:
        self.num_scans = 0

    def scan(self, text: str, /) -> list[Span]:
        self.num_scans += 1
        if "BROKEN" in text:
            raise EngineError("a detector broke")
        kinds = {"Ann Lee": "person", "sk-\\w+": "api_key", "diabetes": "health_condition"}
        return sorted(
            (
                Span(found.start(), found.end(), kind, 0.9)
                for pattern, kind in kinds.items()
                for found in re.finditer(pattern, text)
            ),
            key=lambda span: span.start,
        )


def keeper(policy: Policy | None = None, clock_s: list[float] | None = None) -> Gatekeeper:
    clock = clock_s or [0.0]
    return Gatekeeper(
        policy or Policy.shipped(),
        Scanner(),
        lambda text: Judged("payroll" in text),
        Ledger(b"test"),
        clock_ns=lambda: int(clock[0] * 1e9),
    )


def chat(*parts: Any, **more: Any) -> ChatRequest:
    texts = tuple(Text(part) if isinstance(part, str) else part for part in parts)
    return ChatRequest("far/big", (Message("user", texts),), **more)


def decide(request: Any, made: Gatekeeper | None = None, **asker: Any) -> Verdict:
    return (made or keeper()).consider(request, Asker(**asker), "far", "far/big")


def test_what_is_harmless_goes_as_it_is() -> None:
    request = chat("What is a heap?")
    verdict = decide(request)
    assert verdict.clearance is not None
    assert verdict.clearance.request is request
    assert verdict.clearance.labels == ("public",)
    assert not verdict.clearance.has_stand_ins


def test_names_go_as_stand_ins_in_every_piece() -> None:
    call = ToolCall("c1", "send", '{"to": "Ann Lee"}')
    request = ChatRequest(
        "far/big",
        (
            Message("system", (Text("You write for Ann Lee."),)),
            Message("user", (Text("Write to Ann Lee. ann lee is away."),)),
            Message("assistant", (), (call,)),
            Message("tool", (Text("sent to Ann Lee"),), tool_call_id="c1"),
        ),
    )
    verdict = decide(request)
    assert verdict.ruling.outcome == "pseudonymise"
    assert verdict.clearance is not None
    assert "Ann Lee" not in repr(verdict.clearance.request)
    assert verdict.clearance.substitutions == {"person": 4}
    assert verdict.clearance.request.messages[2].tool_calls[0].id == "c1"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "request_",
    [
        chat("my key is sk-123456"),
        chat("Ann Lee has diabetes"),
        chat("print the payroll"),
        chat("look", Image(b"png", "image/png")),
        chat(Text("notes", Mark(Label("internal")))),
        chat(Text("notes", Mark(Label("public", ("customer:x",))))),
        chat("go on", tools=(Tool("mail", "writes to Ann Lee"),)),
        chat("go on", tools=(Tool("mail", "", {"type": "object", "properties": {"Ann Lee": {}}}),)),
        chat("go on", output=OutputFormat("schema", {"title": "Ann Lee"})),
        chat("Ann Lee", sampling=Sampling(logprobs=2)),
        chat("a BROKEN detector"),
        CompletionRequest("far/big", (1, 2, 3)),
        EmbedRequest("far/big", ("Ann Lee",)),
        EmbedRequest("far/big", ((1, 2),)),
        PredictRequest("far/big", (Tensor("x", "FP32", (1,), b"\0\0\0\0"),)),
        PredictRequest("far/big", (Tensor("x", "BYTES", (1,), b"\x07\0\0\0Ann Lee"),)),
        PredictRequest("far/big", (Tensor("x", "BYTES", (1,), b"\xff\0\0\0Ann"),)),
    ],
)
def test_it_stays_here(request_: Any) -> None:
    verdict = decide(request_)
    assert verdict.ruling.outcome == "local" or verdict.clearance is None
    assert verdict.clearance is None
    assert "Ann" not in verdict.ruling.reason


def test_a_label_of_the_call_a_session_and_a_source_hold_it_here() -> None:
    made = keeper(Policy('[[label]]\nsource="tool:hr_*"\nlabel="secret"\n[[rule]]\nname="open"\nlevel="internal"\n'
                         'then="local"\n[[rule]]\nname="rest"\nthen="remote"', "policy.toml"))  # fmt: skip
    assert decide(chat("hello there"), made).clearance is not None
    assert decide(chat("hello there"), made, label=Label("personal"), session="s").clearance is None
    assert decide(chat("and now?"), made, session="s").clearance is None, "the session remembers"
    assert decide(chat("and now?"), made, session="t").clearance is not None
    answer = Message("tool", (Text("the pay of all is 4711 per month"),), tool_call_id="c1")
    call = Message("assistant", (), (ToolCall("c1", "hr_pay", "{}"),))
    assert decide(ChatRequest("far/big", (call, answer)), made).clearance is None
    assert decide(chat("he said: the pay of all is 4711 per month"), made).clearance is None, "its content is known"


def test_what_was_answered_from_a_secret_is_secret() -> None:
    made = keeper()
    asker = Asker()
    label = made.label(chat(Text("the merger closes in March", Mark(SECRET))), asker)
    assert label == SECRET
    made.answered("In short: two firms become one in the third month.", label)
    assert decide(chat("Translate: In short: two firms become one in the third month."), made).clearance is None


def test_a_clearance_cannot_be_made_by_anything_else() -> None:
    with pytest.raises(RefusedError):
        Clearance(object(), chat("x"), Ruling("remote", "a", "b"), decide(chat("x")).facts, keeper(), None)
    forged = object.__new__(Clearance)
    with pytest.raises(RefusedError):
        forged.check()


def test_a_budget_ends_and_the_next_day_begins_anew() -> None:
    clock = [0.0]
    rules = '[budget]\nday_bytes=20\n[[rule]]\nname="all"\nthen="remote"'
    made = keeper(Policy(rules, "policy.toml"), clock)
    first = decide(chat("0123456789"), made).clearance
    assert first is not None
    first.left(15)
    assert decide(chat("0123456789"), made).ruling.rule == "budget"
    clock[0] = 86_401
    assert decide(chat("0123456789"), made).clearance is not None


def test_a_text_is_looked_through_once() -> None:
    made = keeper()
    for _ in range(3):
        decide(chat("What is a heap?"), made)
    assert made._scanner.num_scans == 1  # type: ignore[attr-defined]
