"""Nothing leaves without an open record that says `remote`, and what leaves is what the record says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.providers.answers import Answer
from tests.providers.policy import open_gatekeeper
from tests.reach.cloud.conftest import KEY, Make, asking

import catena
from catena.core.errors import AuditError, NotFoundError, RefusedError, UnsupportedError
from catena.core.messages import Decision, EmbedRequest, RerankRequest, collect
from catena.reach.cloud.passage import Passage, remote_model
from catena.reach.privacy.clearance import Asker, Clearance
from catena.reach.ticket import Caller, Ticket, salted_digest

pytestmark = pytest.mark.anyio


def cleared() -> Clearance:
    """A clearance as the policy makes one."""
    clearance = open_gatekeeper().consider(asking(), Asker(), "far", "far/big").clearance
    assert clearance is not None
    return clearance


BIG = remote_model("far", "openai", "api.example", "big")


async def test_a_call_by_name_is_recorded_before_anything_leaves_and_closed_with_what_left(make: Make) -> None:
    place = make(price_in=2.0, price_out=8.0, currency="EUR")
    async with place.router.generate(asking(), Caller("k1", "openai.chat")) as answer:
        reply = await collect(answer.events)
    assert reply.choices[0].text == "Hello world"
    assert place.log.num_asked[0] == 0, "the record is there before the first connection"
    decision = place.log.opened.decision
    assert (decision.outcome, decision.rule, decision.model) == ("remote", "policy:everything", "far/big")
    assert decision.provider == "far (openai)" and decision.host == f"127.0.0.1:{place.made.port}"
    assert decision.model_digest is not None and decision.model_digest.startswith("remote:sha256:")
    closed = place.log.closed
    (asked,) = place.made.asked
    assert closed.sent_digest == salted_digest(place.salts.salt(answer.receipt), asked.body)
    assert closed.sent_bytes == len(asked.body)
    assert (closed.outcome, closed.engine, closed.device) == ("complete", "far openai", decision.host)
    assert closed.usage is not None and (closed.usage.prompt_tokens, closed.usage.completion_tokens) == (5, 2)
    assert closed.cost is not None and (closed.cost.amount, closed.cost.currency) == (2.6e-05, "EUR")
    assert asked.headers["authorization"] == f"Bearer {KEY}" and asked.json["model"] == "big"


async def test_without_a_record_nothing_leaves(make: Make) -> None:
    place = make()
    place.log.is_broken = True
    with pytest.raises(AuditError):
        async with place.router.generate(asking(), Caller()) as answer:
            await collect(answer.events)
    with pytest.raises(AuditError):
        await place.router.embed(EmbedRequest("far/big", ("a",)), Caller())
    assert place.made.num_connections == 0


async def test_an_answer_is_not_complete_when_its_record_cannot_be_closed(make: Make) -> None:
    place = make()
    with pytest.raises(AuditError):
        async with place.router.generate(asking(), Caller()) as answer:
            place.log.is_broken = True
            await collect(answer.events)


@pytest.mark.parametrize(
    "decision",
    [
        Decision("local", "here", model=BIG.name, model_digest=BIG.digest, host=BIG.host),
        Decision("refuse", "no", model=BIG.name, model_digest=BIG.digest, host=BIG.host),
        Decision("remote", "other", model="far/small", model_digest=BIG.digest, host=BIG.host),
        Decision("remote", "elsewhere", model=BIG.name, model_digest=BIG.digest, host="other.example"),
        Decision("remote", "else", model=BIG.name, model_digest="remote:sha256:00", host=BIG.host),
    ],
)
async def test_no_other_decision_makes_a_passage(make: Make, decision: Decision) -> None:
    place = make()
    ticket = await Ticket.open(
        place.log, place.salts, caller=Caller(), task="generate", decision=decision, question=b""
    )
    with pytest.raises(RefusedError, match="nothing leaves this machine"):
        Passage(ticket, BIG, cleared())


async def test_a_closed_record_lets_nothing_more_out(make: Make) -> None:
    place = make()
    decision = Decision("remote", "named", model=BIG.name, model_digest=BIG.digest, host=BIG.host)
    ticket = await Ticket.open(
        place.log, place.salts, caller=Caller(), task="generate", decision=decision, question=b""
    )
    passage = Passage(ticket, BIG, cleared())
    await ticket.close("complete")
    with pytest.raises(RefusedError, match="closed"):
        passage.leaving(b"more")
    with pytest.raises(RefusedError):
        Passage(ticket, BIG, cleared())


async def test_what_is_on_this_machine_comes_first_and_the_default_is_never_remote(make: Make) -> None:
    place = make()
    assert place.router.resolve("far/near").name == "tiny"
    async with place.router.generate(asking("far/near"), Caller()) as answer:
        assert answer.decision.outcome == "local"
    with pytest.raises(NotFoundError):  # `default` means far/big, which is not on this machine
        async with place.router.generate(asking("default"), Caller()):
            pass
    assert place.made.num_connections == 0


@pytest.mark.parametrize("name", ["big", "near/big", "far", "far/", "/big", "FAR/big"])
async def test_only_the_full_name_of_a_configured_provider_finds_a_remote_model(make: Make, name: str) -> None:
    place = make()
    with pytest.raises(NotFoundError):
        async with place.router.generate(asking(name), Caller()):
            pass
    assert place.log.records == [] and place.made.num_connections == 0


async def test_models_are_patterns_of_what_may_be_asked(make: Make) -> None:
    place = make(models=("big*", "org/*"))
    assert place.cloud.find("far/big-2") and place.cloud.find("far/org/any")
    with pytest.raises(NotFoundError, match="may not be asked") as caught:
        place.cloud.find("far/small")
    assert caught.value.param == "model" and "big*, org/*" in caught.value.hint
    assert place.cloud.listed() == []


async def test_models_that_are_named_singly_are_listed_without_asking(make: Make) -> None:
    place = make(models=("big", "s*"))
    assert [one.name for one in place.cloud.listed()] == ["far/big"]
    assert place.made.num_connections == 0


async def test_asking_for_the_list_gives_what_the_patterns_allow(make: Make) -> None:
    place = make(models=("s*",))
    place.made.say(Answer(models=("big", "small", "snail")))
    assert [one.name for one in await place.cloud.ask_models("far")] == ["far/small", "far/snail"]
    assert [asked.method for asked in place.made.asked] == ["GET"]


async def test_what_a_dialect_cannot_carry_is_refused_with_a_receipt_and_without_a_connection(make: Make) -> None:
    place = make("ollama")
    with pytest.raises(UnsupportedError) as caught:
        async with place.router.generate(asking(num_choices=2), Caller()):
            pass
    assert caught.value.receipt == place.log.opened.receipt
    assert (place.log.closed.outcome, place.log.closed.error_code) == ("failed", "unsupported")
    assert place.log.closed.sent_digest is None and place.made.num_connections == 0


async def test_counting_is_refused_where_the_dialect_has_no_route_for_it(make: Make) -> None:
    place = make()
    with pytest.raises(UnsupportedError, match="far/big cannot count: the openai dialect has no route for it"):
        await place.router.count(asking(), Caller())
    assert place.made.num_connections == 0


async def test_counting_uses_the_dialects_own_route(make: Make) -> None:
    place = make("anthropic")
    place.made.say(Answer(num_tokens=41))
    counted = await place.router.count(asking(), Caller())
    assert counted.num_tokens == 41 and place.made.asked[0].path.endswith("/count_tokens")


async def test_a_remote_model_is_not_asked_to_rerank(make: Make) -> None:
    place = make()
    with pytest.raises(UnsupportedError, match="text, vectors and arrays only"):
        await place.router.rerank(RerankRequest("far/big", "q", ("a", "b")), Caller())
    assert place.log.closed.outcome == "failed" and place.made.num_connections == 0


async def test_wishes_that_are_lost_are_named_and_the_rest_is_carried(make: Make) -> None:
    place = make()
    async with place.router.generate(asking(top_k=3, seed=7, max_tokens=9), Caller()) as answer:
        await collect(answer.events)
    assert answer.lost == ("sampling.top_k",)
    assert place.made.asked[0].json["seed"] == 7 and place.made.asked[0].json["max_tokens"] == 9


async def test_vectors_come_back_at_length_one(make: Make) -> None:
    place = make()
    place.made.say(Answer(vectors=((3.0, 4.0), (0.6, 0.8))))
    answer = await place.router.embed(EmbedRequest("far/big", ("a", "b")), Caller())
    assert answer.embedded.width == 2 and answer.embedded.vectors[0] == answer.embedded.vectors[1]


async def test_tokens_that_a_provider_does_not_tell_are_estimated_and_say_so(make: Make) -> None:
    place = make(price_in=1.0, price_out=1.0)
    place.made.say(Answer(has_usage=False))
    async with place.router.generate(asking(text="12345678"), Caller()) as answer:
        reply = await collect(answer.events)
    assert reply.usage is not None and reply.usage.source == "estimated"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (2, 3)
    assert place.log.closed.cost is None, "no bill is made up"


def test_only_the_router_makes_passages_and_opens_records() -> None:
    source = Path(catena.__file__).parent
    # A forgetting records itself; nothing is asked of a model by it, and nothing leaves.
    others = {"Ticket.open(": {"reach/forgetting/forgetting.py"}}
    for call in ("Passage(", "Ticket.open(", "Clearance("):
        users = {
            path.relative_to(source).as_posix()
            for path in source.rglob("*.py")
            if call in path.read_text() and f"class {call}" not in path.read_text()
        }
        owner = "reach/privacy/clearance.py" if call == "Clearance(" else "reach/router.py"
        assert users == {owner} | others.get(call, set()), call
