"""One recorded request and its session: however it ends, the session is given back and the record closed.

Decides nothing: `reach.router` does, and opens the record.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Generator, Iterable
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec

from catena.core.errors import CatenaError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    Decision,
    Delta,
    Event,
    Label,
    Listened,
    Reply,
    Segment,
    Timings,
    ToolCallDelta,
    Usage,
    canonical_bytes,
)
from catena.core.messages.reply import Collector
from catena.core.protocols import (
    Classifier,
    Counter,
    Embedder,
    Predictor,
    Reranker,
    Tokeniser,
    Transcriber,
)
from catena.core.protocols import (
    Generator as Generates,
)
from catena.reach.cloud.passage import RemoteModel
from catena.reach.ticket import Caller, Ticket

if TYPE_CHECKING:
    from catena.reach.cloud.provider import Errand
    from catena.reach.privacy.clearance import Gatekeeper
    from catena.run.scheduler import Lease, Scheduler

STOPPING_TIME_S = 10.0
# seam → what a model without it is told, and which model to choose
LACKS: dict[type, tuple[str, str]] = {
    Classifier: ("{} does not classify text", "choose a model with task classify"),
    Counter: ("the engine of {} does not count tokens of text", ""),
    Embedder: ("{} does not embed", "choose a model with task embed"),
    Generates: ("{} does not generate text", "choose a model with task generate"),
    Predictor: ("the engine of {} does not predict", ""),
    Reranker: ("{} does not rerank", "choose a model with task rerank"),
    Tokeniser: ("the engine of {} does not show its tokens", ""),
    Transcriber: ("{} does not transcribe", "choose a model with task transcribe"),
}
E = TypeVar("E", bound="Event | Segment | Listened")


class Work:
    """One recorded request. `async with` it: an error in the block closes the record as failed or cancelled and carries
    its id, and what was leased in the block is given back with its end. Then `complete` closes the record."""

    __slots__ = ("_caller", "_collector", "_errand", "_home", "_lease", "_leased", "_scheduler", "_ticket", "model")

    def __init__(
        self, scheduler: Scheduler, ticket: Ticket, model: StoredModel, caller: Caller, errand: Errand | None
    ) -> None:
        self.model = model
        self._scheduler = scheduler
        self._ticket = ticket
        self._caller = caller
        self._errand = errand
        self._home = errand.homecoming() if errand is not None else None
        self._collector: Collector | None = None
        self._leased: AbstractAsyncContextManager[Lease] | None = None
        self._lease: Lease | None = None

    @property
    def told(self) -> tuple[str, Decision, StoredModel]:
        """With what every answer begins: receipt, decision, model."""
        opened = self._ticket.opened
        return opened.receipt, opened.decision, self.model

    @property
    def lost(self) -> tuple[str, ...]:
        """The wishes that a remote end's dialect cannot carry."""
        return self._errand.lost if self._errand else ()

    @property
    def phase(self) -> str:
        """As the scheduler says it of the model; one that is remote is always ready."""
        return "ready" if self._errand else self._scheduler.phase(self.model.digest)

    async def __aenter__(self) -> Work:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leased is not None:
            try:
                await self._leased.__aexit__(kind, error, trace)
            except BaseException as other:
                await self._close_after(other)
                raise
        if error is not None:
            await self._close_after(error)

    async def lease(self, seam: Any, adapters: tuple[StoredModel, ...] = ()) -> Any:
        """A session of the model that is a `seam`, once in a block. Raises UnsupportedError, and what leases raise."""
        if self._errand is not None:
            leased = self._errand.lease()
        elif isinstance(self.model, RemoteModel):
            raise UnsupportedError(
                f"{self.model.name} is remote, and such models are asked for text, vectors and arrays only",
                param="model",
            )
        else:
            caller = self._caller
            leased = self._scheduler.lease(
                self.model, caller.key, adapters=adapters, is_background=caller.is_background
            )
        self._lease = await leased.__aenter__()
        self._leased = leased
        session: Any = self._lease.session
        facts, ticket = session.facts, self._ticket
        ticket.engine, ticket.device = facts.engine, facts.device
        if not _provides(type(session), seam):
            words, hint = LACKS[seam]
            raise UnsupportedError(words.format(self.model.name), hint=hint, param="model")
        return session

    def spent(self, timings: Timings, usage: Usage | None = None) -> Timings:
        """Note what the answer took; `timings` with those of the lease."""
        lease = self._lease
        assert lease is not None
        self._ticket.usage = usage
        timings = msgspec.structs.replace(timings, queued_s=lease.queued_s, loading_s=lease.loading_s)
        self._ticket.timings = timings
        return timings

    def collect(self) -> None:
        """The answer comes in events, each of which goes through `passing`."""
        self._collector = Collector()

    def passing(self, event: E) -> E:
        """Note what the record needs of `event`, and give it as it is told: timings with those of the lease."""
        match event:
            case Delta() | ToolCallDelta():
                self._ticket.num_deltas += 1
            case Usage():
                self._ticket.usage = event
            case Timings():
                event = self.spent(event, self._ticket.usage)
            case Segment() | Listened():
                return event
            case _:
                pass
        assert self._collector is not None
        self._collector.add(event)
        return event

    def turned_back(self, event: Event) -> Iterable[Event]:
        """What `event` says with stand-ins turned back; maybe nothing yet."""
        return (event,) if self._home is None else self._home.feed(event)

    @contextmanager
    def labelling(self, gatekeeper: Gatekeeper | None) -> Generator[None]:
        """However the block ends, what was answered in it is worth what was asked, from then on."""
        try:
            yield
        finally:
            labels = self._ticket.opened.decision.labels
            if gatekeeper is not None and labels and self._errand is None and self._collector is not None:
                label = Label.parse(",".join(labels))
                for choice in self._collector.reply().choices:
                    for text in (choice.text, choice.reasoning, *(call.arguments for call in choice.tool_calls)):
                        gatekeeper.answered(text, label)

    def complete(self, answer: bytes | None = None) -> Awaitable[None]:
        """Close the record with the digest of `answer`, or of what passed. Raises AuditError: then it is no answer."""
        if self._collector is not None:
            answer = self._answered(self._collector.reply())
        return self._ticket.close("complete", answer=answer)

    async def stop(self, stream: Any) -> None:
        """Close `stream`, and the record as cancelled if it is still open."""
        with anyio.move_on_after(STOPPING_TIME_S, shield=True):
            await stream.aclose()
        await self._ticket.close("cancelled")

    async def _close_after(self, error: BaseException) -> None:
        """Close the record of a request that did not end well; what had already left is digested too."""
        if isinstance(error, CatenaError):
            error.receipt = self._ticket.receipt
        is_cut = isinstance(error, (GeneratorExit, anyio.get_cancelled_exc_class()))
        reply = self._collector.reply() if self._collector is not None else None
        answer = self._answered(reply) if reply is not None and reply.choices else None
        await self._ticket.close("cancelled" if is_cut else "failed", answer=answer, error=None if is_cut else error)

    def _answered(self, reply: Reply) -> bytes:
        self._ticket.finish = tuple(choice.reason for choice in reply.choices)
        return answer_bytes(reply)


def answer_bytes(reply: Reply) -> bytes:
    """The bytes that an answer's digest is taken of: its choices as a JSON array of text, reasoning, calls, reason."""
    return canonical_bytes(
        [[choice.text, choice.reasoning, choice.tool_calls, choice.reason] for choice in reply.choices]
    )


@functools.cache
def _provides(kind: type, seam: type) -> bool:
    """Whether sessions of this class are a `seam`: asked of each object, it would cost more than a small model."""
    return issubclass(kind, seam)
