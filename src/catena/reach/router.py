"""The only way to a model: decides where a request goes, has that recorded, then lets it be computed.

A decision is `local`, `refuse`, or `remote` where configuration names a provider, the call asks for it by name, and the
policy clears every piece of it; then `reach.cloud` carries it out, under a Passage that only the open record and that
clearance make. In doubt nothing leaves this machine.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import anyio.to_thread
import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError, NotFoundError, RefusedError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    PUBLIC,
    ChatRequest,
    Classified,
    ClassifyRequest,
    CompletionRequest,
    Decision,
    DetokeniseRequest,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Label,
    Listened,
    Prediction,
    PredictRequest,
    Progress,
    Reranked,
    RerankRequest,
    Segment,
    Timings,
    TokeniseRequest,
    Tokens,
    TranscribeRequest,
    canonical_bytes,
)
from catena.core.messages.predict import tensor_bytes
from catena.core.messages.transcribe import question_bytes
from catena.core.protocols import (
    Classifier,
    Counter,
    Embedder,
    Generator,
    Predictor,
    Reranker,
    Tokeniser,
    Transcriber,
)
from catena.reach.cloud.passage import Passage, RemoteModel
from catena.reach.presets import Preset
from catena.reach.privacy.clearance import Asker, Verdict
from catena.reach.privacy.pieces import Leaving, pieces
from catena.reach.signatures import fitted
from catena.reach.ticket import Appends, Caller, Salts, Ticket
from catena.reach.work import Work, answer_bytes

__all__ = [
    "DEFAULT",
    "Answer",
    "Caller",
    "ClassifiedAnswer",
    "CountedPrompt",
    "EmbeddedAnswer",
    "PredictedAnswer",
    "RerankedAnswer",
    "Router",
    "TokensAnswer",
    "Transcript",
    "answer_bytes",
]

if TYPE_CHECKING:
    from catena.reach.cloud.provider import Errand
    from catena.reach.privacy.clearance import Gatekeeper
    from catena.run.scheduler import Scheduler

# The name that stands for `reach.default_model`.
DEFAULT = "default"

AdmittedRequest = GenerateRequest | EmbedRequest | RerankRequest | ClassifyRequest | TokeniseRequest | DetokeniseRequest
# Whose labels go on to their answers.
GUARDED = (ChatRequest, CompletionRequest)
# A text of more is looked through beside the event loop.
MAX_INLINE_CHARACTERS = 20_000
J = TypeVar("J")
# What remote models can be asked for.
ERRANDS = frozenset({"generate", "count", "embed", "predict"})


class Models(Protocol):
    """Where stored models are found by name, alias or digest."""

    def resolve(self, name: str, /) -> StoredModel: ...


class Remotes(Protocol):
    """Models that are somewhere else."""

    def find(self, name: str, /) -> RemoteModel | None: ...

    def errand(self, passage: Passage, task: str, /) -> Errand: ...


class Answer(Struct):
    """An accepted request: its receipt, the recorded decision, the model, and the events to iterate once.

    `lost` are the wishes that a remote end's dialect cannot carry, by their names in core.messages.
    """

    receipt: str
    decision: Decision
    model: StoredModel
    events: AsyncIterator[Event]
    lost: tuple[str, ...] = ()


class CountedPrompt(Struct, frozen=True):
    """How many tokens a prompt has, with the receipt of the count."""

    receipt: str
    decision: Decision
    model: StoredModel
    num_tokens: int
    lost: tuple[str, ...] = ()


class EmbeddedAnswer(Struct, frozen=True):
    """Vectors with their receipt."""

    receipt: str
    decision: Decision
    model: StoredModel
    embedded: Embedded


class ClassifiedAnswer(Struct, frozen=True):
    """Labels with their receipt."""

    receipt: str
    decision: Decision
    model: StoredModel
    classified: Classified


class RerankedAnswer(Struct, frozen=True):
    """Scores with their receipt."""

    receipt: str
    decision: Decision
    model: StoredModel
    reranked: Reranked


class TokensAnswer(Struct, frozen=True):
    """Tokens, or the text of tokens, with their receipt, and how many tokens the model reads at most."""

    receipt: str
    decision: Decision
    model: StoredModel
    found: Tokens | str
    context_tokens: int


class Transcript(Struct):
    """Accepted speech: its receipt, the recorded decision, the model, and the events to iterate once."""

    receipt: str
    decision: Decision
    model: StoredModel
    events: AsyncIterator[Event | Segment | Listened]
    lost: tuple[str, ...] = ()


class PredictedAnswer(Struct, frozen=True):
    """Arrays with their receipt; `queued_s` and `loading_s` are in the timings of the prediction."""

    receipt: str
    decision: Decision
    model: StoredModel
    prediction: Prediction


class Router:
    """Every model call passes here.

    `guests` are models that live outside the store, such as `echo`; the alias `default` means `default_model`, which is
    never a remote one. `cloud` holds the remote ends, None if there are none; without a `gatekeeper` nothing is cleared
    to go there.
    """

    def __init__(
        self,
        models: Models,
        scheduler: Scheduler,
        log: Appends,
        salts: Salts,
        guests: Mapping[str, StoredModel] | None = None,
        *,
        default_model: str = "",
        cloud: Remotes | None = None,
        gatekeeper: Gatekeeper | None = None,
    ) -> None:
        self.gatekeeper = gatekeeper
        self.models = models
        self.scheduler = scheduler
        self.guests = dict(guests or {})
        self.default_model = default_model
        self.cloud = cloud
        self._log = log
        self._salts = salts

    def resolve(self, name: str) -> StoredModel:
        """The model called `name`. Raises NotFoundError, or IntegrityError if its files changed."""
        if name == DEFAULT and self.default_model:
            name = self.default_model
        return self.guests[name] if name in self.guests else self.models.resolve(name)

    async def load(self, name: str, caller: Caller) -> StoredModel:
        """Have the model called `name` in memory. Nothing is asked of it, so nothing is recorded.

        Raises what `resolve` and a lease raise.
        """
        model, _ = self._decide(name)
        if isinstance(model, RemoteModel):
            return model
        model = self.resolve(name)
        adapters = self._adapters(model, Preset.of(model.manifest).adapters)
        background = caller.is_background
        async with self.scheduler.lease(model, caller.key, adapters=adapters, is_background=background):
            return model

    @asynccontextmanager
    async def generate(self, request: GenerateRequest, caller: Caller) -> AsyncGenerator[Answer]:
        """Enter: decided and recorded. Iterate `events`: computed. The record is closed before the iterator ends.

        Leaving early, or by an exception, stops the work and closes the record as cancelled or failed.
        Errors raised after the record was opened carry its id in `error.receipt`.
        """
        work = await self._admit(request, caller, "generate")
        stream = self._stream(work, request)
        try:
            yield Answer(*work.told, stream, work.lost)
        finally:
            await work.stop(stream)

    async def count(self, request: GenerateRequest, caller: Caller) -> CountedPrompt:
        """Decide, record, count the prompt, close. Errors raised after the record was opened carry its id.

        No token is spent, so the record has no usage; the answer whose digest it holds is the count.
        """
        async with await self._admit(request, caller, "count") as work:
            request = Preset.of(work.model.manifest).applied(request)
            session: Counter = await work.lease(Counter, self._adapters(work.model, request.adapters))
            work.spent(Timings())
            num_tokens = await session.count(request)
        await work.complete(canonical_bytes(num_tokens))
        return CountedPrompt(*work.told, num_tokens, work.lost)

    async def embed(self, request: EmbedRequest, caller: Caller) -> EmbeddedAnswer:
        """Decide, record, embed, close. Errors raised after the record was opened carry its id."""
        async with await self._admit(request, caller, "embed") as work:
            session: Embedder = await work.lease(Embedder)
            embedded = await session.embed(request)
            work.spent(embedded.timings, embedded.usage)
        await work.complete(b"".join(embedded.vectors))
        return EmbeddedAnswer(*work.told, embedded)

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankedAnswer:
        """Decide, record, rerank, close. Errors raised after the record was opened carry its id.

        The answer whose digest it holds are the scores.
        """
        async with await self._admit(request, caller, "rerank") as work:
            session: Reranker = await work.lease(Reranker)
            reranked = await session.rerank(request)
            work.spent(reranked.timings, reranked.usage)
        await work.complete(canonical_bytes(reranked.scores))
        return RerankedAnswer(*work.told, reranked)

    async def tokenise(self, request: TokeniseRequest | DetokeniseRequest, caller: Caller) -> TokensAnswer:
        """As `count`; the answer whose digest is recorded are the ids, or the text."""
        task = "tokenise" if isinstance(request, TokeniseRequest) else "detokenise"
        async with await self._admit(request, caller, task) as work:
            session: Any = await work.lease(Tokeniser)
            work.spent(Timings())
            if isinstance(request, TokeniseRequest):
                found = await cast(Tokeniser, session).tokenise(_preset(request, work.model))
            else:
                found = await cast(Tokeniser, session).detokenise(request)
            context_tokens = session.facts.context_tokens
        await work.complete(canonical_bytes(found if isinstance(found, str) else found.ids))
        return TokensAnswer(*work.told, found, context_tokens)

    async def classify(self, request: ClassifyRequest, caller: Caller) -> ClassifiedAnswer:
        """Decide, record, classify, close. Errors raised after the record was opened carry its id."""
        async with await self._admit(request, caller, "classify") as work:
            session: Classifier = await work.lease(Classifier)
            classified = await session.classify(request)
            work.spent(classified.timings, classified.usage)
        await work.complete(canonical_bytes([classified.probabilities, classified.spans]))
        return ClassifiedAnswer(*work.told, classified)

    @asynccontextmanager
    async def transcribe(self, request: TranscribeRequest, caller: Caller) -> AsyncGenerator[Transcript]:
        """As `generate`, for speech. Digests are of `question_bytes` and of the text."""
        model, decision = self._decide(request.model)
        work = await self._open(question_bytes(request), model, decision, caller, "transcribe")
        stream = self._listen(work, request)
        try:
            yield Transcript(*work.told, stream)
        finally:
            await work.stop(stream)

    async def predict(self, request: PredictRequest, caller: Caller) -> PredictedAnswer:
        """Check against the signature, decide, record, predict, close.

        Digests are of `tensor_bytes`. What does not fit the signature is refused without a record, like what cannot be
        parsed; errors raised after the record was opened carry its id.
        """
        model, decision = self._decide(request.model)
        if not isinstance(model, (RemoteModel, NoneType)):  # the signature of a remote one is not known
            request = fitted(request, model.manifest)
        question = tensor_bytes(request.inputs, request.model, *request.outputs)
        async with await self._open(question, model, decision, caller, "predict", request) as work:
            session: Predictor = await work.lease(Predictor)
            prediction = await session.predict(request)
            timings = work.spent(prediction.timings)
        await work.complete(tensor_bytes(prediction.outputs))
        return PredictedAnswer(*work.told, msgspec.structs.replace(prediction, timings=timings))

    async def _admit(self, request: AdmittedRequest, caller: Caller, task: str) -> Work:
        """Decide and record; raises RefusedError (recorded and closed) when the decision is no."""
        model, decision = self._decide(request.model)
        return await self._open(request, model, decision, caller, task, request)

    async def _open(
        self,
        question: Any,
        model: StoredModel | None,
        decision: Decision,
        caller: Caller,
        task: str,
        request: Any = None,
    ) -> Work:
        """Record the decision; raises RefusedError (recorded and closed) when it is no, so without a model.

        A remote model is asked by an errand, which only this open record and a clearance allow.
        """
        verdict: Verdict | None = None
        if isinstance(model, RemoteModel) and task in ERRANDS:
            verdict = await self._considered(request, model, caller)
            model, decision = _ruled(model, decision, verdict)
        elif self.gatekeeper is not None and isinstance(request, GUARDED):
            label = await self._worth(request, caller)
            decision = msgspec.structs.replace(decision, labels=() if label == PUBLIC else label.names)
        ticket = await Ticket.open(
            self._log, self._salts, caller=caller, task=task, decision=decision, question=question
        )
        if model is None:
            error = RefusedError(decision.reason, hint=_hint(decision))
            error.receipt = ticket.receipt
            await ticket.close("failed", error=error)
            raise error
        if not isinstance(model, RemoteModel) or task not in ERRANDS:
            return Work(self.scheduler, ticket, model, caller, None)
        assert self.cloud is not None
        assert verdict is not None
        assert verdict.clearance is not None
        async with Work(self.scheduler, ticket, model, caller, None):  # closes the record if this cannot be carried
            errand = self.cloud.errand(Passage(ticket, model, verdict.clearance), task)
        return Work(self.scheduler, ticket, model, caller, errand)

    async def _considered(self, request: Leaving, model: RemoteModel, caller: Caller) -> Verdict:
        """What the policy says of `request` going to `model`. Raises RefusedError where nothing could say so."""
        if self.gatekeeper is None:
            raise RefusedError("nothing here can tell what may leave this machine, so nothing does")
        consider = functools.partial(
            self.gatekeeper.consider, request, _asker(caller), provider=model.provider, model=model.name
        )
        return await _aside(consider, request)

    async def _worth(self, request: Leaving, caller: Caller) -> Label:
        """What a request that stays here is worth, so that its answer is worth as much."""
        assert self.gatekeeper is not None
        return await _aside(functools.partial(self.gatekeeper.label, request, _asker(caller)), request)

    def _decide(self, name: str) -> tuple[StoredModel | None, Decision]:
        try:
            model = self.resolve(name)
        except NotFoundError:  # what is on this machine comes first
            remote = self.cloud.find(name) if self.cloud is not None else None
            if remote is None:
                raise
            return remote, _named(remote)
        except IntegrityError as error:
            return None, Decision("refuse", f"{name}: {error.message}", rule="integrity", model=name)
        reason = "the model is on this machine, and nothing may leave it"
        return model, Decision("local", reason, rule="default", model=model.name, model_digest=model.digest)

    async def _stream(self, work: Work, request: GenerateRequest) -> AsyncGenerator[Event]:
        async with work:
            work.collect()
            request = Preset.of(work.model.manifest).applied(request)
            adapters = self._adapters(work.model, request.adapters)
            if (phase := work.phase) != "ready":
                yield Progress("queued" if phase == "busy" else "loading")
            session: Generator = await work.lease(Generator, adapters)
            with work.labelling(self.gatekeeper):
                async with aclosing(session.generate(request)) as events:
                    async for event in events:
                        for told in work.turned_back(event):
                            yield work.passing(told)
        await work.complete()

    async def _listen(self, work: Work, request: TranscribeRequest) -> AsyncGenerator[Event | Segment | Listened]:
        async with work:
            work.collect()
            if (phase := work.phase) != "ready":
                yield Progress("queued" if phase == "busy" else "loading")
            session: Transcriber = await work.lease(Transcriber)
            async with aclosing(session.transcribe(request)) as events:
                async for event in events:
                    yield work.passing(event)
        await work.complete()

    def _adapters(self, model: StoredModel, wanted: Mapping[str, float]) -> tuple[StoredModel, ...]:
        """The adapters by name. Raises NotFoundError; IntegrityError if one `model` was made with is another by now."""
        try:
            found = tuple(self.resolve(name) for name in sorted(wanted))
        except NotFoundError as error:
            error.message = f"{model.name} was asked for with an adapter that is not here: {', '.join(sorted(wanted))}"
            error.param = "adapters"
            raise
        preset = Preset.of(model.manifest).adapters
        for adapter in found:
            if adapter.name in preset and adapter.digest not in model.manifest.provenance.parents:
                raise IntegrityError(
                    f"the adapter {adapter.name} is not the one that {model.name} was made with",
                    hint=f"make {model.name} again",
                )
        return found


def _named(remote: RemoteModel) -> Decision:
    return Decision(
        "remote",
        "the call asks for this model by name, and configuration names its provider",
        rule="named",
        model=remote.name,
        model_digest=remote.digest,
        provider=f"{remote.provider} ({remote.kind})",
        host=remote.host,
    )


def _asker(caller: Caller) -> Asker:
    return Asker(caller.key, caller.session, caller.door, caller.label)


async def _aside(judge: Callable[[], J], request: Leaving) -> J:
    """Judge at once, or beside the event loop where a long text would stop everybody else."""
    if sum(len(piece.text or "") for piece in pieces(request)) <= MAX_INLINE_CHARACTERS:
        return judge()
    return await anyio.to_thread.run_sync(judge)


def _ruled(model: RemoteModel, decision: Decision, verdict: Verdict) -> tuple[RemoteModel | None, Decision]:
    """The decision that the policy's ruling makes of a call for a remote model."""
    ruling, label = verdict.ruling, verdict.label
    decision = msgspec.structs.replace(
        decision,
        reason=ruling.reason,
        rule=f"policy:{ruling.rule}",
        labels=() if label == PUBLIC else label.names,
        found=verdict.facts.counts,
        policy=verdict.policy,
    )
    if verdict.clearance is None:
        return None, msgspec.structs.replace(decision, outcome="refuse", model_digest=None)
    return model, decision


def _hint(decision: Decision) -> str:
    if decision.rule == "integrity":
        return f"run `catena verify {decision.model}`, then `catena pull` it again"
    return "ask a model of this machine, or see `catena policy explain`"


def _preset(request: TokeniseRequest, model: StoredModel) -> TokeniseRequest:
    """A conversation gets what `model` sets for all of its own."""
    if isinstance(request.text, str):
        return request
    return msgspec.structs.replace(request, text=Preset.of(model.manifest).applied(request.text))
