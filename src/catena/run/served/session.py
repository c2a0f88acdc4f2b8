"""A model in a server of its own: requests of ours in OpenAI's dialect, answers as events, errors as ours."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import (
    BusyError,
    CatenaError,
    ContextError,
    EngineError,
    InputError,
    UnsupportedError,
)
from catena.core.messages import (
    CompletionRequest,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Timings,
    ToolCallDelta,
    Usage,
)
from catena.core.protocols import SessionFacts
from catena.run.dialects.dialect import Outgoing
from catena.run.dialects.framing import framer
from catena.run.dialects.openai import OpenAI
from catena.run.dialects.shapes import JSON
from catena.run.served.asking import Abilities, check
from catena.run.served.backoff import STEADY_S
from catena.run.served.connection import Address, Broken, exchange
from catena.run.served.process import Process

# What the server calls the one model that it has.
MODEL = "catena"
BASE = "/v1"
# A server that breaks a connection off because it ended is noticed to have ended a moment later.
NOTICE_S = 2.0


class Running(NamedTuple):
    """A server that answers: its process and where and how it is asked; `title` for people, `private` its folder."""

    title: str
    process: Process
    address: Address
    key: str
    private: Path
    log_path: Path
    began_s: float


class Served:
    """What every session of a served model is. `on_end` is told whether the server did its work to the end."""

    def __init__(self, running: Running, facts: SessionFacts, dialect: OpenAI, on_end: Callable[[bool], None]) -> None:
        self.facts = facts
        self.running = running
        self.dialect = dialect
        self._on_end = on_end
        self._is_closed = False

    @property
    def is_broken(self) -> bool:
        """Whether the server ended by itself."""
        return self.running.process.has_ended

    async def close(self) -> None:
        """Have the server stop, and everything that it started; its folder goes."""
        if self._is_closed:
            return
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            is_steady = not self.is_broken or monotonic_s() - self.running.began_s >= STEADY_S
            self._on_end(is_steady)
            await self.running.process.end()
            await anyio.to_thread.run_sync(shutil.rmtree, self.running.private, True)

    def check_open(self) -> None:
        """Raises EngineError for a session that was closed, or whose server is no more."""
        if self._is_closed:
            raise EngineError("the session is closed")
        if self.is_broken:
            raise self.gone()

    async def post(self, outgoing: Outgoing, base: str = BASE) -> bytes:
        """The whole body of the answer. Raises the error that it means."""
        headers = {**self.dialect.headers(self.running.key), **outgoing.headers}
        try:
            path = base + outgoing.path
            async with exchange(self.running.address, outgoing.method, path, headers, outgoing.body) as answer:
                body = await answer.whole()
                if answer.status != 200:
                    raise self.dialect.error(answer.status, answer.headers, body)
                return body
        except CatenaError as error:
            raise await self.told(error) from None

    async def told(self, error: CatenaError) -> CatenaError:
        """An error of the dialect or of the connection, as one of this machine's own server."""
        title = self.running.title
        match error:
            case ContextError() | UnsupportedError():
                return error
            case BusyError():
                return BusyError(f"{title} takes no more requests for now", retry_after_s=error.retry_after_s)
            case InputError():
                # The server's own words are left out: they may quote the request.
                hint = "check the order of roles, the tools and the output format"
                return InputError(f"{title} refused the request", hint=hint, param=error.param)
            case Broken() if await self.running.process.wait(NOTICE_S):
                return self.gone()
            case _:
                return EngineError(f"{title} failed: {error.message}", hint=f"see {self.running.log_path}")

    def gone(self) -> EngineError:
        """The error for a server that ended by itself."""
        hint = f"the next request starts it again; see {self.running.log_path}"
        return EngineError(f"the process of {self.running.title} ended", hint=hint)


class Generating(Served):
    """A model that generates."""

    def __init__(
        self,
        running: Running,
        facts: SessionFacts,
        dialect: OpenAI,
        on_end: Callable[[bool], None],
        abilities: Abilities,
    ) -> None:
        super().__init__(running, facts, dialect, on_end)
        self.abilities = abilities

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event]:
        """Events of one request; closing the generator closes the connection, and with that the server stops.

        Raises ContextError, UnsupportedError, InputError, NotFoundError (an adapter) before any event, EngineError when
        the server broke.
        """
        self.check_open()
        check(request, self.abilities)
        if isinstance(request, CompletionRequest) and request.sampling.max_tokens is None:
            # Without a number these servers give 16 tokens.
            request = _limited(request, self.facts.context_tokens, fills_context=True)
        try:
            async with aclosing(self._stream(self.outgoing(request), request)) as events:
                async for event in events:
                    yield event
                return
        except ContextError as error:
            left = _left(request, error)
            if left < 1:
                raise
        shorter = _limited(request, left, fills_context=False)
        async with aclosing(self._stream(self.outgoing(shorter), shorter)) as events:
            async for event in events:
                yield event

    def outgoing(self, request: GenerateRequest) -> Outgoing:
        """The request as it is sent. Raises UnsupportedError for a wish that would be lost."""
        outgoing = self.dialect.generate(request, MODEL)
        if outgoing.lost:
            wish = outgoing.lost[0].rpartition(".")[2]
            raise UnsupportedError(f"{self.running.title} cannot be asked for {wish}", hint="leave it out", param=wish)
        return outgoing

    async def _stream(self, outgoing: Outgoing, request: GenerateRequest) -> AsyncGenerator[Event]:
        began_s = monotonic_s()
        first_s: float | None = None
        has_usage = False
        try:
            async with aclosing(self._events(outgoing, request)) as events:
                async for event in events:
                    if first_s is None and isinstance(event, Delta | ToolCallDelta):
                        first_s = monotonic_s()
                    has_usage = has_usage or isinstance(event, Usage)
                    yield event
        except CatenaError as error:
            raise await self.told(error) from None
        if not has_usage:
            yield Usage(0, 0, source="estimated")
        ended_s = monotonic_s()
        first_s = ended_s if first_s is None else first_s
        yield Timings(prefill_s=first_s - began_s, decode_s=ended_s - first_s)

    async def _events(self, outgoing: Outgoing, request: GenerateRequest) -> AsyncGenerator[Event]:
        headers = {**self.dialect.headers(self.running.key), **outgoing.headers}
        incoming, frames = self.dialect.incoming(request), framer("sse")
        path = BASE + outgoing.path
        async with exchange(self.running.address, outgoing.method, path, headers, outgoing.body) as answer:
            if answer.status != 200:
                raise self.dialect.error(answer.status, answer.headers, await answer.whole())
            while (piece := await answer.piece()) is not None:
                for frame in frames.feed(piece):
                    for event in incoming.read(*frame):
                        yield event
            for frame in frames.end():
                for event in incoming.read(*frame):
                    yield event
        for event in incoming.end():
            yield event


class CountWire(Struct, frozen=True):
    count: int


class Counting(Generating):
    """A model that generates, in a server that shows tokens at `/tokenize`, of conversations too."""

    async def count(self, request: GenerateRequest) -> int:
        """Tokens of the prompt. Raises what `generate` raises before any event, but for ContextError."""
        self.check_open()
        check(request, self.abilities)
        asked: dict[str, Any] = msgspec.json.decode(self.outgoing(request).body)
        if isinstance(asked.get("prompt"), list):
            return len(asked["prompt"])
        kept = ("model", "prompt", "messages", "tools", "chat_template_kwargs")
        body = {name: asked[name] for name in kept if name in asked}
        try:
            answer = await self.post(Outgoing("/tokenize", msgspec.json.encode(body), JSON), base="")
        except ContextError as error:
            return error.needed
        try:
            return msgspec.json.decode(answer, type=CountWire).count
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise EngineError(f"{self.running.title} did not say how long the prompt is") from None


class Embedding(Served):
    """A model that embeds, with vectors of `width` values (0: not known)."""

    def __init__(
        self, running: Running, facts: SessionFacts, dialect: OpenAI, on_end: Callable[[bool], None], width: int
    ) -> None:
        super().__init__(running, facts, dialect, on_end)
        self._width = width

    async def embed(self, request: EmbedRequest) -> Embedded:
        """One vector per input. Raises ContextError, UnsupportedError for another width than the model's own."""
        self.check_open()
        wanted = request.dimensions
        if wanted is not None and wanted != await self._known():
            raise UnsupportedError(
                f"this model's vectors have {self._width} dimensions", hint="leave dimensions out", param="dimensions"
            )
        found = await self._asked(msgspec.structs.replace(request, dimensions=None))
        self._width = found.width
        return found

    async def _known(self) -> int:
        if not self._width:
            self._width = (await self._asked(EmbedRequest(MODEL, ("a",)))).width
        return self._width

    async def _asked(self, request: EmbedRequest) -> Embedded:
        began_s = monotonic_s()
        body = await self.post(self.dialect.embed(request, MODEL))
        try:
            found = self.dialect.embedded(body, request)
        except CatenaError as error:
            raise await self.told(error) from None
        return msgspec.structs.replace(found, timings=Timings(prefill_s=monotonic_s() - began_s))


def _limited(request: GenerateRequest, max_tokens: int, *, fills_context: bool) -> Any:
    sampling = msgspec.structs.replace(request.sampling, max_tokens=max_tokens, fills_context=fills_context)
    return msgspec.structs.replace(request, sampling=sampling)


def _left(request: GenerateRequest, error: ContextError) -> int:
    """How many tokens an answer may have that may end where the context does; 0 if it must not, or has no room."""
    wish = request.sampling.max_tokens
    if not request.sampling.fills_context or wish is None or error.needed <= wish:
        return 0
    return min(wish - 1, error.available - (error.needed - wish))
