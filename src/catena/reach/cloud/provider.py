"""One request to one remote model: written in its dialect, sent under a Passage, read back as events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext

import msgspec

from catena.core.clock import monotonic_s
from catena.core.errors import NetworkError, TooLargeError, UnsupportedError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Prediction,
    PredictRequest,
    Timings,
    ToolCallDelta,
    Usage,
    message_text,
)
from catena.core.protocols import SessionFacts
from catena.reach.cloud.client import Answer, Client
from catena.reach.cloud.configured import End
from catena.reach.cloud.departure import Recorder
from catena.reach.cloud.passage import Passage
from catena.reach.privacy.pieces import Leaving
from catena.reach.privacy.pseudonyms.events import Homecoming
from catena.run.dialects.dialect import Counting, Outgoing
from catena.run.dialects.framing import framer
from catena.run.scheduler import Lease

# A token is about four bytes of text: for counts that a provider does not tell, marked as estimated.
BYTES_PER_TOKEN = 4
# Counts, lists and errors are short.
MAX_WHOLE_BYTES = 8 << 20


class Errand:
    """A session for the one request that `passage` was made for. `lost` names the wishes that will not be carried.

    Making it writes the request and sends nothing. Raises UnsupportedError for what the dialect cannot carry.
    """

    def __init__(self, end: End, client: Client, passage: Passage, task: str) -> None:
        self._end = end
        self._client = client
        self._passage = passage
        self._outgoing = self._written(passage.request, task)
        self.lost = self._outgoing.lost
        self.facts = SessionFacts(f"{end.name} {end.kind}", end.host, 1, 0, 0)

    def lease(self) -> AbstractAsyncContextManager[Lease]:
        """This session as the scheduler would lease one: nothing is queued for and nothing loaded."""
        return nullcontext(Lease(self, 0.0, 0.0))

    def homecoming(self) -> Homecoming | None:
        """Turns stand-ins in the answer back; None if none were sent."""
        clearance = self._passage.clearance
        return Homecoming(clearance.restorer) if clearance.has_stand_ins else None

    async def close(self) -> None:
        """Nothing is held between requests."""

    async def generate(self, request: GenerateRequest, /) -> AsyncGenerator[Event]:
        """Events as they arrive. Raises what the dialect makes of errors, NetworkError, ExpiredError, TooLargeError."""
        tally = _Tally()
        async with self._asked() as answer, aclosing(self._events(request, answer)) as events:
            async for event in events:
                tally.see(event)
                yield event
        if tally.usage is None:
            tally.usage = tally.estimate(request)
            yield tally.usage
        self._spent(tally.usage)
        yield tally.timings()

    async def embed(self, request: EmbedRequest, /) -> Embedded:
        """Vectors as the dialect reads them."""
        began_s = monotonic_s()
        async with self._asked() as answer:
            body = await answer.body(self._end.settings.max_answer_bytes)
        embedded = self._end.dialect.embedded(body, request)
        if embedded.usage.source == "estimated":
            embedded = msgspec.structs.replace(embedded, usage=Usage(_num_tokens(request), 0, source="estimated"))
        self._spent(embedded.usage)
        return msgspec.structs.replace(embedded, timings=Timings(prefill_s=monotonic_s() - began_s))

    async def predict(self, request: PredictRequest, /) -> Prediction:
        """Arrays as the dialect reads them."""
        began_s = monotonic_s()
        async with self._asked() as answer:
            body = await answer.body(self._end.settings.max_answer_bytes)
        prediction = self._end.dialect.predicted(body, answer.headers, request)
        return msgspec.structs.replace(prediction, timings=Timings(prefill_s=monotonic_s() - began_s))

    async def count(self, request: GenerateRequest, /) -> int:
        """What the dialect's own route for counting says."""
        async with self._asked() as answer:
            body = await answer.body(MAX_WHOLE_BYTES)
        assert isinstance(self._end.dialect, Counting)  # or writing the request had been refused
        return self._end.dialect.counted(body)

    def _written(self, request: Leaving, task: str) -> Outgoing:
        dialect, name = self._end.dialect, self._passage.model.remote_name
        match request:
            case EmbedRequest():
                return dialect.embed(request, name)
            case PredictRequest():
                return dialect.predict(request, name)
            case _ if task == "count":
                if not isinstance(dialect, Counting):
                    raise UnsupportedError(
                        f"{self._passage.model.name} cannot count: the {self._end.kind} dialect has no route for it",
                        hint="the answer's usage says how many tokens there were",
                        param="model",
                    )
                return dialect.count(request, name)
            case _:
                return dialect.generate(request, name)

    @asynccontextmanager
    async def _asked(self) -> AsyncGenerator[Answer]:
        """Send the request; an answer with an error's status is raised as the dialect reads it."""
        self._passage.leaving(self._outgoing.body)
        async with asked(self._end, self._client, self._outgoing, self._passage) as answer:
            yield answer

    async def _events(self, request: GenerateRequest, answer: Answer) -> AsyncGenerator[Event]:
        incoming, frames = self._end.dialect.incoming(request), framer(self._end.dialect.framing)
        async with aclosing(answer.pieces) as pieces:
            async for piece in pieces:
                for name, data in frames.feed(piece):
                    for event in incoming.read(name, data):
                        yield event
        for name, data in frames.end():
            for event in incoming.read(name, data):
                yield event
        for event in incoming.end():
            yield event

    def _spent(self, usage: Usage) -> None:
        settings = self._end.settings
        self._passage.spent(usage, settings.price_in, settings.price_out, settings.currency)


@asynccontextmanager
async def asked(end: End, client: Client, outgoing: Outgoing, recorder: Recorder) -> AsyncGenerator[Answer]:
    """Send one request to `end`. Raises what its dialect makes of a status that is not 200."""
    key = end.key.read()
    async with client.ask(outgoing, end.dialect.headers(key), recorder, (key,) if key else ()) as answer:
        if answer.status != 200:
            try:
                body = await answer.body(MAX_WHOLE_BYTES)
            except (NetworkError, TooLargeError):
                body = b""  # the status says enough
            raise end.dialect.error(answer.status, answer.headers, body)
        yield answer


class _Tally:
    """What passed by: for times, and for counts where the provider tells none."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._began_s = monotonic_s()
        self._first_s: float | None = None
        self._num_bytes = 0

    def see(self, event: Event) -> None:
        match event:
            case Delta():
                self._num_bytes += len((event.text + event.reasoning).encode())
            case ToolCallDelta():
                self._num_bytes += len(event.arguments.encode())
            case Usage():
                self.usage = event
                return
            case _:
                return
        if self._first_s is None:
            self._first_s = monotonic_s()

    def estimate(self, request: GenerateRequest) -> Usage:
        return Usage(_num_tokens(request), _tokens(self._num_bytes), source="estimated")

    def timings(self) -> Timings:
        """Until the first event as `prefill_s`, from there to the end as `decode_s`."""
        end_s = monotonic_s()
        first_s = end_s if self._first_s is None else self._first_s
        return Timings(prefill_s=first_s - self._began_s, decode_s=end_s - first_s)


def _num_tokens(request: GenerateRequest | EmbedRequest) -> int:
    """About how many tokens the texts of `request` are."""
    match request:
        case ChatRequest():
            return _tokens(sum(len(message_text(message).encode()) for message in request.messages))
        case CompletionRequest():
            return _size(request.prompt)
        case EmbedRequest():
            return sum(_size(one) for one in request.inputs)


def _size(text: str | tuple[int, ...]) -> int:
    return _tokens(len(text.encode())) if isinstance(text, str) else len(text)


def _tokens(num_bytes: int) -> int:
    return -(-num_bytes // BYTES_PER_TOKEN)
