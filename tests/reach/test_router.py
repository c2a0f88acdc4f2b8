"""The router records before anything is computed and closes after, however a request ends."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from catena.core.errors import (
    AuditError,
    EngineError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnsupportedError,
)
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import (
    ChatRequest,
    Closed,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    Message,
    Opened,
    Progress,
    Text,
    Timings,
    Usage,
    canonical_bytes,
    collect,
)
from catena.core.protocols import SessionFacts
from catena.reach.router import Caller, Router, answer_bytes

pytestmark = pytest.mark.anyio

MODEL = StoredModel(
    Manifest("tiny", "generate", "test", (), "Apache-2.0", Provenance("test")), "sha256:" + "a" * 64, {}
)
REQUEST = ChatRequest("tiny", (Message("user", (Text("a secret question"),)),))
EVENTS: tuple[Event, ...] = (
    Delta(text="Hello"),
    Delta(text=" world"),
    Finished(0, "stop"),
    Usage(5, 2),
    Timings(prefill_s=0.1, decode_s=0.2),
)


class Log:
    """An audit log in memory; `broken_from` makes it fail from that append on."""

    def __init__(self, steps: list[str], broken_from: int | None = None) -> None:
        self.records: list[Opened | Closed] = []
        self.steps = steps
        self.broken_from = broken_from

    async def append(self, record: Opened | Closed, /) -> int:
        if self.broken_from is not None and len(self.records) >= self.broken_from:
            raise AuditError("the disk is full")
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        self.steps.append(type(record).__name__)
        self.records.append(record)
        return len(self.records) - 1

    @property
    def closed(self) -> Closed:
        (record,) = (r for r in self.records if isinstance(r, Closed))
        return record


class Salts:
    def salt(self, receipt: str, /) -> bytes:
        return hashlib.sha256(receipt.encode()).digest()


class Session:
    """Says EVENTS; `fails` raises after the first, `hangs` waits for ever after the first."""

    def __init__(self, steps: list[str], *, fails: bool = False, hangs: bool = False) -> None:
        self.facts = SessionFacts("test-1", "cpu", 1, 100, 0)
        self.steps, self.fails, self.hangs = steps, fails, hangs
        self.was_stopped = False

    async def generate(self, request: Any, /) -> AsyncGenerator[Event]:
        self.steps.append("computed")
        try:
            for event in EVENTS:
                yield event
                if self.fails:
                    raise EngineError("the engine broke")
                if self.hangs:
                    await anyio.sleep_forever()
        finally:
            self.was_stopped = True


class EmbedSession:
    facts = SessionFacts("test-1", "cpu", 1, 100, 0)

    async def embed(self, request: EmbedRequest, /) -> Embedded:
        return Embedded((b"\0\0\x80\x3f",), 1, Usage(3, 0))


class Scheduler:
    """Gives one session, cold at first."""

    def __init__(self, session: Any, phase: str = "ready") -> None:
        self.session, self._phase = session, phase

    def phase(self, digest: str) -> str:
        return self._phase

    @asynccontextmanager
    async def lease(
        self, model: StoredModel, caller: str, *, adapters: Any = (), is_background: bool = False
    ) -> AsyncIterator[Any]:
        yield SimpleNamespace(session=self.session, queued_s=0.25, loading_s=0.5)


class Models:
    def resolve(self, name: str, /) -> StoredModel:
        if name == "changed":
            raise IntegrityError("weights.gguf does not match its digest")
        if name != "tiny":
            raise NotFoundError(f"there is no model {name!r}", param="model")
        return MODEL


def make(*, phase: str = "ready", broken_from: int | None = None, **session: bool) -> tuple[Router, Log, Session]:
    steps: list[str] = []
    log, made = Log(steps, broken_from), Session(steps, **session)
    return Router(Models(), Scheduler(made, phase), log, Salts()), log, made  # type: ignore[arg-type]


async def test_a_request_is_recorded_before_it_is_computed_and_closed_after() -> None:
    router, log, _ = make()
    async with router.generate(REQUEST, Caller("k1", "openai.chat")) as answer:
        reply = await collect(answer.events)
        assert log.steps == ["Opened", "computed", "Closed"]
    assert reply.choices[0].text == "Hello world"
    opened = log.records[0]
    assert isinstance(opened, Opened)
    assert (opened.caller, opened.door, opened.decision.outcome) == ("k1", "openai.chat", "local")
    assert opened.decision.model_digest == MODEL.digest
    closed = log.closed
    assert (closed.receipt, closed.opened_index, closed.outcome) == (answer.receipt, 0, "complete")
    assert (closed.engine, closed.finish, closed.num_deltas) == ("test-1", ("stop",), 2)
    assert closed.usage == Usage(5, 2)
    assert closed.timings == Timings(0.25, 0.5, 0.1, 0.2)


async def test_digests_are_salted_and_can_be_recomputed_by_whoever_has_salt_and_text() -> None:
    router, log, _ = make()
    async with router.generate(REQUEST, Caller()) as answer:
        reply = await collect(answer.events)
    salt = Salts().salt(answer.receipt)
    opened = log.records[0]
    assert isinstance(opened, Opened)
    assert opened.question_digest == "sha256:" + hashlib.sha256(salt + canonical_bytes(REQUEST)).hexdigest()
    assert log.closed.answer_digest == "sha256:" + hashlib.sha256(salt + answer_bytes(reply)).hexdigest()


async def test_records_never_hold_the_text_of_question_or_answer() -> None:
    router, log, _ = make()
    async with router.generate(REQUEST, Caller()) as answer:
        await collect(answer.events)
    everything = canonical_bytes(log.records)
    assert b"secret" not in everything
    assert b"Hello" not in everything


async def test_leaving_before_the_first_event_closes_the_record_as_cancelled() -> None:
    router, log, session = make()
    async with router.generate(REQUEST, Caller()):
        pass
    assert log.closed.outcome == "cancelled"
    assert log.steps == ["Opened", "Closed"]
    assert not session.was_stopped


async def test_leaving_half_way_stops_the_engine_and_digests_what_had_left() -> None:
    router, log, session = make(hangs=True)
    async with router.generate(REQUEST, Caller()) as answer:
        assert await anext(answer.events) == EVENTS[0]
    assert session.was_stopped
    assert (log.closed.outcome, log.closed.num_deltas) == ("cancelled", 1)
    assert log.closed.answer_digest is not None


async def test_a_cancelled_task_still_closes_its_record() -> None:
    router, log, session = make(hangs=True)

    async def ask() -> None:
        async with router.generate(REQUEST, Caller()) as answer:
            async for _ in answer.events:
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
    assert session.was_stopped
    assert log.closed.outcome == "cancelled"


async def test_a_failing_engine_closes_the_record_as_failed_and_the_error_carries_the_receipt() -> None:
    router, log, _ = make(fails=True)
    with pytest.raises(EngineError) as caught:
        async with router.generate(REQUEST, Caller()) as answer:
            await collect(answer.events)
    assert caught.value.receipt == log.closed.receipt
    assert (log.closed.outcome, log.closed.error_code) == ("failed", "engine_failed")


async def test_no_opening_record_no_computation() -> None:
    router, log, _ = make(broken_from=0)
    with pytest.raises(AuditError):
        async with router.generate(REQUEST, Caller()):
            pytest.fail("an answer was begun without a record")
    assert log.steps == []


async def test_no_closing_record_no_clean_end() -> None:
    router, _, _ = make(broken_from=1)
    with pytest.raises(AuditError):
        async with router.generate(REQUEST, Caller()) as answer:
            await collect(answer.events)


async def test_a_model_whose_files_changed_is_refused_and_the_refusal_is_recorded() -> None:
    router, log, _ = make()
    with pytest.raises(RefusedError) as caught:
        async with router.generate(ChatRequest("changed", ()), Caller()):
            pytest.fail("a changed model was used")
    opened = log.records[0]
    assert isinstance(opened, Opened)
    assert (opened.decision.outcome, opened.decision.rule) == ("refuse", "integrity")
    assert caught.value.receipt == opened.receipt == log.closed.receipt


async def test_an_unknown_model_is_not_found_and_leaves_no_record() -> None:
    router, log, _ = make()
    with pytest.raises(NotFoundError):
        async with router.generate(ChatRequest("absent", ()), Caller()):
            pytest.fail("an unknown model was used")
    assert log.records == []


@pytest.mark.parametrize(("phase", "sign"), [("cold", "loading"), ("loading", "loading"), ("busy", "queued")])
async def test_a_wait_is_announced_before_it_begins(phase: str, sign: str) -> None:
    router, _, _ = make(phase=phase)
    async with router.generate(REQUEST, Caller()) as answer:
        first = await anext(answer.events)
    assert first == Progress(sign)  # type: ignore[arg-type]


async def test_embeddings_are_recorded_like_answers() -> None:
    log = Log([])
    router = Router(Models(), Scheduler(EmbedSession()), log, Salts())  # type: ignore[arg-type]
    answer = await router.embed(EmbedRequest("tiny", ("text",)), Caller())
    assert answer.embedded.width == 1
    salt = Salts().salt(answer.receipt)
    assert log.closed.answer_digest == "sha256:" + hashlib.sha256(salt + b"\0\0\x80\x3f").hexdigest()
    assert (log.closed.outcome, log.closed.timings.loading_s) == ("complete", 0.5)


async def test_asking_a_generator_for_vectors_says_so() -> None:
    router, log, _ = make()
    with pytest.raises(UnsupportedError, match="does not embed"):
        await router.embed(EmbedRequest("tiny", ("text",)), Caller())
    assert (log.closed.outcome, log.closed.error_code) == ("failed", "unsupported")


class CountSession(Session):
    """Counts three tokens, unless it is to fail."""

    async def count(self, request: Any, /) -> int:
        self.steps.append("counted")
        if self.fails:
            raise EngineError("the engine broke")
        return 3


async def test_a_count_is_recorded_like_an_answer_but_spends_no_tokens() -> None:
    steps: list[str] = []
    log = Log(steps)
    router = Router(Models(), Scheduler(CountSession(steps)), log, Salts())  # type: ignore[arg-type]
    counted = await router.count(REQUEST, Caller("k1", "anthropic.count_tokens"))
    assert counted.num_tokens == 3
    assert steps == ["Opened", "counted", "Closed"]
    opened = log.records[0]
    assert isinstance(opened, Opened)
    assert (opened.task, opened.door) == ("count", "anthropic.count_tokens")
    assert (log.closed.outcome, log.closed.usage, log.closed.timings.loading_s) == ("complete", None, 0.5)
    salt = Salts().salt(counted.receipt)
    assert log.closed.answer_digest == "sha256:" + hashlib.sha256(salt + b"3").hexdigest()


async def test_a_count_that_fails_closes_its_record_and_the_error_carries_the_receipt() -> None:
    log = Log([])
    router = Router(Models(), Scheduler(CountSession([], fails=True)), log, Salts())  # type: ignore[arg-type]
    with pytest.raises(EngineError) as caught:
        await router.count(REQUEST, Caller())
    assert caught.value.receipt == log.closed.receipt
    assert (log.closed.outcome, log.closed.error_code) == ("failed", "engine_failed")


async def test_a_session_that_cannot_count_says_so() -> None:
    router, log, _ = make()
    with pytest.raises(UnsupportedError, match="does not count"):
        await router.count(REQUEST, Caller())
    assert log.closed.error_code == "unsupported"


async def test_guests_are_found_beside_the_store() -> None:
    router, _, _ = make()
    guest = StoredModel(MODEL.manifest, "sha256:" + "b" * 64, {"x": Path("/dev/null")})
    router.guests["guest"] = guest
    assert router.resolve("guest") is guest
    assert router.resolve("tiny") is MODEL


async def test_the_alias_default_means_the_configured_model() -> None:
    guest = StoredModel(MODEL.manifest, "sha256:" + "b" * 64, {})
    router = Router(
        Models(),
        Scheduler(None),  # type: ignore[arg-type]
        Log([]),
        Salts(),
        {"guest": guest},
        default_model="guest",
    )
    assert router.resolve("default") is guest


async def test_without_a_configured_model_default_is_a_name_like_any_other() -> None:
    router, _, _ = make()
    with pytest.raises(NotFoundError):
        router.resolve("default")


def derived(**facts: Any) -> StoredModel:
    provenance = Provenance("model:tiny", parents=(MODEL.digest, "sha256:" + "b" * 64))
    return StoredModel(Manifest("derived", "generate", "test", (), "MIT", provenance, facts=facts), "sha256:00", {})


class Derived(Models):
    """Knows a derived model, and an adapter with a digest that can be changed."""

    def __init__(self, **facts: Any) -> None:
        self.model = derived(**facts)
        self.adapter_digest = "sha256:" + "b" * 64

    def resolve(self, name: str, /) -> StoredModel:
        if name == "lora":
            return StoredModel(Manifest("lora", "adapter", "test", (), "MIT", Provenance("x")), self.adapter_digest, {})
        return self.model if name == "derived" else super().resolve(name)


async def test_what_a_derived_model_sets_is_computed_with_and_what_was_asked_is_recorded() -> None:
    asked: list[Any] = []

    class Asked(Session):
        async def generate(self, request: Any, /) -> AsyncGenerator[Event]:
            asked.append(request)
            async for event in super().generate(request):
                yield event

    log = Log([])
    models = Derived(**{"preset.system": "Be brief.", "preset.temperature": 0.5, "preset.adapters": '{"lora": 1.0}'})
    router = Router(models, Scheduler(Asked([])), log, Salts())  # type: ignore[arg-type]
    request = ChatRequest("derived", REQUEST.messages)
    async with router.generate(request, Caller()) as answer:
        await collect(answer.events)
    assert [message.role for message in asked[0].messages] == ["system", "user"]
    assert (asked[0].sampling.temperature, asked[0].adapters) == (0.5, {"lora": 1.0})
    opened = log.records[0]
    assert isinstance(opened, Opened)
    salt = Salts().salt(answer.receipt)
    assert opened.question_digest == "sha256:" + hashlib.sha256(salt + canonical_bytes(request)).hexdigest()


async def test_a_derived_model_is_not_run_with_another_adapter_than_its_own() -> None:
    log, models = Log([]), Derived(**{"preset.adapters": '{"lora": 1.0}'})
    models.adapter_digest = "sha256:" + "c" * 64
    router = Router(models, Scheduler(Session(log.steps)), log, Salts())  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="lora"):
        async with router.generate(ChatRequest("derived", REQUEST.messages), Caller()) as answer:
            await collect(answer.events)
    assert log.closed.outcome == "failed"
    assert "computed" not in log.steps


async def test_a_model_is_loaded_without_a_record_because_nothing_is_asked() -> None:
    router, log, _ = make()
    assert await router.load("tiny", Caller()) == MODEL
    assert log.records == []
    with pytest.raises(NotFoundError):
        await router.load("other", Caller())
