"""The only way to a model: decides where a request goes, has that recorded, then lets it be computed.

A decision is `local`, `refuse`, or `remote` where configuration names a provider and the call asks for it by name; then
`reach.cloud` carries it out, under a Passage that only the open record makes. In doubt nothing leaves this machine.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import msgspec
from msgspec import Struct

from catena.core.errors import CatenaError, IntegrityError, NotFoundError, RefusedError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    Classified,
    ClassifyRequest,
    Decision,
    Delta,
    DetokeniseRequest,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Listened,
    Prediction,
    PredictRequest,
    Progress,
    Reply,
    Reranked,
    RerankRequest,
    Segment,
    Timings,
    TokeniseRequest,
    Tokens,
    ToolCallDelta,
    TranscribeRequest,
    Usage,
    canonical_bytes,
)
from catena.core.messages.predict import tensor_bytes
from catena.core.messages.reply import Collector
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
from catena.reach.signatures import fitted
from catena.reach.ticket import Appends, Caller, Salts, Ticket

if TYPE_CHECKING:
    from catena.reach.cloud.provider import Asked, Errand
    from catena.run.scheduler import Lease, Scheduler

# The name that stands for `reach.default_model`.
DEFAULT = "default"

STOPPING_TIME_S = 10.0
AdmittedRequest = GenerateRequest | EmbedRequest | RerankRequest | ClassifyRequest | TokeniseRequest | DetokeniseRequest


class Models(Protocol):
    """Where stored models are found by name, alias or digest."""

    def resolve(self, name: str, /) -> StoredModel: ...


class Remotes(Protocol):
    """Models that are somewhere else."""

    def find(self, name: str, /) -> RemoteModel | None: ...

    def errand(self, passage: Passage, request: Asked, task: str, /) -> Errand: ...


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
    never a remote one. `cloud` holds the remote ends, None if there are none.
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
    ) -> None:
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
        async with self._lease(model, caller, adapters=adapters):
            return model

    @asynccontextmanager
    async def generate(self, request: GenerateRequest, caller: Caller) -> AsyncGenerator[Answer]:
        """Enter: decided and recorded. Iterate `events`: computed. The record is closed before the iterator ends.

        Leaving early, or by an exception, stops the work and closes the record as cancelled or failed.
        Errors raised after the record was opened carry its id in `error.receipt`.
        """
        ticket, model = await self._admit(request, request.model, caller, "generate")
        try:
            errand = self._errand(ticket, model, request)
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        stream = self._stream(request, model, caller, ticket, errand)
        try:
            yield Answer(ticket.receipt, ticket.opened.decision, model, stream, errand.lost if errand else ())
        finally:
            with anyio.move_on_after(STOPPING_TIME_S, shield=True):
                await stream.aclose()
            await ticket.close("cancelled")

    async def count(self, request: GenerateRequest, caller: Caller) -> CountedPrompt:
        """Decide, record, count the prompt, close. Errors raised after the record was opened carry its id.

        No token is spent, so the record has no usage; the answer whose digest it holds is the count.
        """
        ticket, model = await self._admit(request, request.model, caller, "count")
        try:
            errand = self._errand(ticket, model, request, "count")
            request = Preset.of(model.manifest).applied(request)
            adapters = self._adapters(model, request.adapters)
            async with self._lease(model, caller, adapters=adapters, errand=errand) as lease:
                _note_lease(ticket, lease)
                if not isinstance(lease.session, Counter):
                    raise UnsupportedError(f"the engine of {model.name} does not count tokens of text", param="model")
                ticket.timings = _with_lease(Timings(), lease)
                num_tokens = await lease.session.count(request)
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        await ticket.close("complete", answer=canonical_bytes(num_tokens))
        lost = errand.lost if errand else ()
        return CountedPrompt(ticket.receipt, ticket.opened.decision, model, num_tokens, lost)

    async def embed(self, request: EmbedRequest, caller: Caller) -> EmbeddedAnswer:
        """Decide, record, embed, close. Errors raised after the record was opened carry its id."""
        ticket, model = await self._admit(request, request.model, caller, "embed")
        try:
            errand = self._errand(ticket, model, request)
            async with self._lease(model, caller, errand=errand) as lease:
                _note_lease(ticket, lease)
                if not isinstance(lease.session, Embedder):
                    raise UnsupportedError(
                        f"{model.name} does not embed", hint="choose a model with task embed", param="model"
                    )
                embedded = await lease.session.embed(request)
                ticket.usage = embedded.usage
                ticket.timings = _with_lease(embedded.timings, lease)
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        await ticket.close("complete", answer=b"".join(embedded.vectors))
        return EmbeddedAnswer(ticket.receipt, ticket.opened.decision, model, embedded)

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankedAnswer:
        """Decide, record, rerank, close. Errors raised after the record was opened carry its id.

        The answer whose digest it holds are the scores.
        """
        ticket, model = await self._admit(request, request.model, caller, "rerank")
        try:
            async with self._lease(model, caller) as lease:
                _note_lease(ticket, lease)
                if not isinstance(lease.session, Reranker):
                    raise UnsupportedError(
                        f"{model.name} does not rerank", hint="choose a model with task rerank", param="model"
                    )
                reranked = await lease.session.rerank(request)
                ticket.usage = reranked.usage
                ticket.timings = _with_lease(reranked.timings, lease)
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        await ticket.close("complete", answer=canonical_bytes(reranked.scores))
        return RerankedAnswer(ticket.receipt, ticket.opened.decision, model, reranked)

    async def tokenise(self, request: TokeniseRequest | DetokeniseRequest, caller: Caller) -> TokensAnswer:
        """As `count`; the answer whose digest is recorded are the ids, or the text."""
        is_text = isinstance(request, TokeniseRequest)
        ticket, model = await self._admit(request, request.model, caller, "tokenise" if is_text else "detokenise")
        try:
            async with self._lease(model, caller) as lease:
                _note_lease(ticket, lease)
                session = lease.session
                if not isinstance(session, Tokeniser):
                    raise UnsupportedError(f"the engine of {model.name} does not show its tokens", param="model")
                ticket.timings = _with_lease(Timings(), lease)
                if isinstance(request, TokeniseRequest):
                    found = await session.tokenise(_preset(request, model))
                else:
                    found = await session.detokenise(request)
                context_tokens = session.facts.context_tokens
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        await ticket.close("complete", answer=canonical_bytes(found if isinstance(found, str) else found.ids))
        return TokensAnswer(ticket.receipt, ticket.opened.decision, model, found, context_tokens)

    async def classify(self, request: ClassifyRequest, caller: Caller) -> ClassifiedAnswer:
        """Decide, record, classify, close. Errors raised after the record was opened carry its id."""
        ticket, model = await self._admit(request, request.model, caller, "classify")
        try:
            async with self._lease(model, caller) as lease:
                _note_lease(ticket, lease)
                if not isinstance(lease.session, Classifier):
                    raise UnsupportedError(
                        f"{model.name} does not classify text", hint="choose a model with task classify", param="model"
                    )
                classified = await lease.session.classify(request)
                ticket.usage = classified.usage
                ticket.timings = _with_lease(classified.timings, lease)
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        await ticket.close("complete", answer=canonical_bytes([classified.probabilities, classified.spans]))
        return ClassifiedAnswer(ticket.receipt, ticket.opened.decision, model, classified)

    @asynccontextmanager
    async def transcribe(self, request: TranscribeRequest, caller: Caller) -> AsyncGenerator[Transcript]:
        """As `generate`, for speech. Digests are of `question_bytes` and of the text."""
        model, decision = self._decide(request.model)
        ticket = await self._open(question_bytes(request), model, decision, caller, "transcribe")
        assert model is not None
        stream = self._listen(request, model, caller, ticket)
        try:
            yield Transcript(ticket.receipt, decision, model, stream)
        finally:
            with anyio.move_on_after(STOPPING_TIME_S, shield=True):
                await stream.aclose()
            await ticket.close("cancelled")

    async def predict(self, request: PredictRequest, caller: Caller) -> PredictedAnswer:
        """Check against the signature, decide, record, predict, close.

        Digests are of `tensor_bytes`. What does not fit the signature is refused without a record, like what cannot be
        parsed; errors raised after the record was opened carry its id.
        """
        model, decision = self._decide(request.model)
        if model is not None and not isinstance(model, RemoteModel):  # the signature of a remote one is not known
            request = fitted(request, model.manifest)
        question = tensor_bytes(request.inputs, request.model, *request.outputs)
        ticket = await self._open(question, model, decision, caller, "predict")
        assert model is not None
        try:
            errand = self._errand(ticket, model, request)
            async with self._lease(model, caller, errand=errand) as lease:
                _note_lease(ticket, lease)
                if not _predicts(type(lease.session)):
                    raise UnsupportedError(f"the engine of {model.name} does not predict", param="model")
                prediction = await cast(Predictor, lease.session).predict(request)
                ticket.timings = _with_lease(prediction.timings, lease)
        except BaseException as error:
            await _close_after(ticket, error, None)
            raise
        await ticket.close("complete", answer=tensor_bytes(prediction.outputs))
        prediction = msgspec.structs.replace(prediction, timings=ticket.timings)
        return PredictedAnswer(ticket.receipt, decision, model, prediction)

    async def _admit(
        self, request: AdmittedRequest, name: str, caller: Caller, task: str
    ) -> tuple[Ticket, StoredModel]:
        """Decide and record; raises RefusedError (recorded and closed) when the decision is no."""
        model, decision = self._decide(name)
        ticket = await self._open(request, model, decision, caller, task)
        assert model is not None
        return ticket, model

    async def _open(
        self, question: Any, model: StoredModel | None, decision: Decision, caller: Caller, task: str
    ) -> Ticket:
        """Record the decision; raises RefusedError (recorded and closed) when it is no, so without a model."""
        ticket = await Ticket.open(
            self._log, self._salts, caller=caller, task=task, decision=decision, question=question
        )
        if model is None:
            hint = f"run `catena verify {decision.model}`, then `catena pull` it again"
            error = RefusedError(decision.reason, hint=hint)
            error.receipt = ticket.receipt
            await ticket.close("failed", error=error)
            raise error
        return ticket

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

    async def _stream(
        self, request: GenerateRequest, model: StoredModel, caller: Caller, ticket: Ticket, errand: Errand | None
    ) -> AsyncGenerator[Event]:
        collector = Collector()
        try:
            request = Preset.of(model.manifest).applied(request)
            adapters = self._adapters(model, request.adapters)
            phase = "ready" if errand else self.scheduler.phase(model.digest)
            if phase != "ready":
                yield Progress("queued" if phase == "busy" else "loading")
            async with self._lease(model, caller, adapters=adapters, errand=errand) as lease:
                _note_lease(ticket, lease)
                if not isinstance(lease.session, Generator):
                    raise UnsupportedError(
                        f"{model.name} does not generate text", hint="choose a model with task generate", param="model"
                    )
                async with aclosing(lease.session.generate(request)) as events:
                    async for event in events:
                        match event:
                            case Delta() | ToolCallDelta():
                                ticket.num_deltas += 1
                            case Usage():
                                ticket.usage = event
                            case Timings():
                                event = ticket.timings = _with_lease(event, lease)  # noqa: PLW2901
                            case _:
                                pass
                        collector.add(event)
                        yield event
        except BaseException as error:
            await _close_after(ticket, error, collector.reply())
            raise
        reply = collector.reply()
        ticket.finish = tuple(choice.reason for choice in reply.choices)
        await ticket.close("complete", answer=answer_bytes(reply))

    async def _listen(
        self, request: TranscribeRequest, model: StoredModel, caller: Caller, ticket: Ticket
    ) -> AsyncGenerator[Event | Segment | Listened]:
        collector = Collector()
        try:
            phase = self.scheduler.phase(model.digest)
            if phase != "ready":
                yield Progress("queued" if phase == "busy" else "loading")
            async with self._lease(model, caller) as lease:
                _note_lease(ticket, lease)
                if not isinstance(lease.session, Transcriber):
                    raise UnsupportedError(
                        f"{model.name} does not transcribe", hint="choose a model with task transcribe", param="model"
                    )
                async with aclosing(lease.session.transcribe(request)) as events:
                    async for event in events:
                        match event:
                            case Delta():
                                ticket.num_deltas += 1
                            case Usage():
                                ticket.usage = event
                            case Timings():
                                event = ticket.timings = _with_lease(event, lease)  # noqa: PLW2901
                            case _:
                                pass
                        if not isinstance(event, Segment | Listened):
                            collector.add(event)
                        yield event
        except BaseException as error:
            await _close_after(ticket, error, collector.reply())
            raise
        reply = collector.reply()
        ticket.finish = tuple(choice.reason for choice in reply.choices)
        await ticket.close("complete", answer=answer_bytes(reply))

    def _errand(self, ticket: Ticket, model: StoredModel, request: Asked, task: str = "") -> Errand | None:
        """The way to a remote model, which only this open record allows; None for a model that is here."""
        if not isinstance(model, RemoteModel):
            return None
        assert self.cloud is not None
        return self.cloud.errand(Passage(ticket, model), request, task)

    def _lease(
        self,
        model: StoredModel,
        caller: Caller,
        *,
        adapters: tuple[StoredModel, ...] = (),
        errand: Errand | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        if errand is not None:
            return errand.lease()
        if isinstance(model, RemoteModel):
            raise UnsupportedError(
                f"{model.name} is remote, and such models are asked for text, vectors and arrays only", param="model"
            )
        return self.scheduler.lease(model, caller.key, adapters=adapters, is_background=caller.is_background)

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


def answer_bytes(reply: Reply) -> bytes:
    """The bytes that an answer's digest is taken of: its choices as a JSON array of text, reasoning, calls, reason."""
    return canonical_bytes(
        [[choice.text, choice.reasoning, choice.tool_calls, choice.reason] for choice in reply.choices]
    )


def _preset(request: TokeniseRequest, model: StoredModel) -> TokeniseRequest:
    """A conversation gets what `model` sets for all of its own."""
    if isinstance(request.text, str):
        return request
    return msgspec.structs.replace(request, text=Preset.of(model.manifest).applied(request.text))


async def _close_after(ticket: Ticket, error: BaseException, reply: Reply | None) -> None:
    """Close the record of a request that did not end well; what had already left is digested too."""
    if isinstance(error, CatenaError):
        error.receipt = ticket.receipt
    is_cut = isinstance(error, (GeneratorExit, anyio.get_cancelled_exc_class()))
    answer = None
    if reply is not None and reply.choices:
        ticket.finish = tuple(choice.reason for choice in reply.choices)
        answer = answer_bytes(reply)
    await ticket.close("cancelled" if is_cut else "failed", answer=answer, error=None if is_cut else error)


@functools.cache
def _predicts(kind: type) -> bool:
    """Whether sessions of this class are Predictors: asked of each object, it would cost more than a small model."""
    return issubclass(kind, Predictor)


def _note_lease(ticket: Ticket, lease: Lease) -> None:
    ticket.engine, ticket.device = lease.session.facts.engine, lease.session.facts.device


def _with_lease(timings: Timings, lease: Lease) -> Timings:
    return msgspec.structs.replace(timings, queued_s=lease.queued_s, loading_s=lease.loading_s)
