"""A response in the background: kept before it is told of, followed by any number of streams, ended truthfully."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
from msgspec import Struct

from catena.core.errors import CatenaError, ExpiredError
from catena.core.messages import ChatRequest, Progress
from catena.reach.archive import Archive
from catena.reach.gateway import telemetry
from catena.reach.gateway.answering import STREAM_HEADERS, Accepted, until_gone, warn_lost
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import Failure, HttpError, describe
from catena.reach.gateway.protocols.openai.chat_form import comment
from catena.reach.gateway.protocols.openai.responses.form import (
    CANCELLED,
    CONTENT_TYPE,
    CUT,
    Answering,
    encode,
    error_frame,
)
from catena.reach.gateway.protocols.openai.responses.items import Item
from catena.reach.gateway.protocols.openai.responses.keeping import kept
from catena.reach.gateway.services import Reach
from catena.reach.ticket import Caller

# How long keeping the end may take when the work was cut.
KEEPING_S = 5.0
# Events that wait go out together, at most so many.
MAX_FRAMES = 256


class Asked(Struct, frozen=True):
    """What is kept and repeated of a question. `summarises`: reasoning is shown as its summary."""

    items: list[Item]
    echo: dict[str, Any]
    summarises: bool


class Course:
    """The making of one response. `answering` is None until it was recorded and kept; then `accepted` is there too.

    With `streams`, its events are gathered for those who follow, in `frames`: the number of each is its place.
    """

    def __init__(
        self,
        reach: Reach,
        archive: Archive,
        request: ChatRequest,
        asked: Asked,
        caller: Caller,
        *,
        limit_s: float,
        streams: bool,
    ) -> None:
        self.owner = caller.key
        self.streams = streams
        self.answering: Answering | None = None
        self.accepted: Accepted | None = None
        self.error: CatenaError | None = None
        self.frames: list[bytes] = []
        self.is_over = False
        self.is_unwanted = False  # its caller has asked that it be cancelled
        self.news = anyio.Event()  # set, and another put in its place, whenever something has changed
        self._reach = reach
        self._archive = archive
        self._request = request
        self._asked = asked
        self._caller = caller
        self._limit_s = limit_s

    async def run(self) -> None:
        """Make the response, and keep its end, however it comes."""
        failure: Failure | None = CUT
        try:
            with anyio.fail_after(self._limit_s):
                await self._make()
            failure = None
        except TimeoutError:
            failure = describe(ExpiredError(f"the answer took longer than {self._limit_s:g} s"))
        except CatenaError as error:
            self.error = error
            failure = describe(error)
        finally:
            with anyio.move_on_after(KEEPING_S, shield=True):
                await self._end(failure)
            self.is_over = True
            self._tell(())

    async def _make(self) -> None:
        async with self._reach.generate(self._request, self._caller) as answer:
            accepted = Accepted(answer.receipt, answer.model, answer.lost)
            answering = Answering(accepted, self._asked.echo, summarises=self._asked.summarises)
            first = answering.begin()
            await self._archive.put(kept(answering, self.owner, self._asked.items, first if self.streams else ()))
            self.accepted, self.answering = accepted, answering
            self._tell(first)
            async for event in answer.events:
                if not isinstance(event, Progress):
                    self._tell([*answering.go_on(), *answering.add(event)])

    async def _end(self, failure: Failure | None) -> None:
        """Keep the end, then tell of it: nobody may see an end that a crash could undo."""
        answering = self.answering
        if answering is None:
            return
        if failure is None:
            answering.complete()
            if answering.growth.usage is not None and self.accepted is not None:
                telemetry.spend(self.accepted.model.name, answering.growth.usage)
        elif self.is_unwanted:
            failure = CANCELLED
            answering.cancel()
        else:
            answering.fail(failure)
        last = answering.last(failure)
        frames = [*self.frames, *last] if self.streams else ()
        try:
            await self._archive.settle(kept(answering, self.owner, self._asked.items, frames))
        except CatenaError as error:  # without its end in the archive, it counts as lost at the next start
            failure = describe(error)
            answering.fail(failure)
            last = answering.last(failure)
        self._tell(last)

    def _tell(self, frames: Sequence[bytes]) -> None:
        if self.streams:
            self.frames += frames
        self.news.set()
        self.news = anyio.Event()


async def begin(exchange: Exchange, request: ChatRequest, asked: Asked, archive: Archive, *, streams: bool) -> None:
    """Start a response in the background, and answer once it was recorded and kept: at once, or by following it."""
    services = exchange.services
    limit_s = services.settings.background_timeout_s
    course = Course(services.router, archive, request, asked, exchange.caller, limit_s=limit_s, streams=streams)
    services.background.start(course)
    while course.answering is None and not course.is_over:
        await course.news.wait()
    if course.answering is None or course.accepted is None:
        raise course.error or HttpError(503, CUT.message, code="shutting_down")
    exchange.receipt, exchange.model = course.accepted.receipt, course.accepted.model.name
    warn_lost(exchange, course.accepted.lost)
    if streams:
        await follow(exchange, course, 0)
    else:
        await exchange.answer(200, encode(course.answering.form()))


def live(exchange: Exchange, id: str) -> Course | None:
    """The response `id` of this caller, if it is being made now."""
    for work in exchange.services.background.works:
        if isinstance(work, Course) and work.answering is not None and work.answering.id == id:
            return work if work.owner == exchange.caller.key and not work.is_over else None
    return None


async def stop(exchange: Exchange, course: Course) -> None:
    """Cancel a response for its caller, and return when its end is kept."""
    course.is_unwanted = True
    exchange.services.background.cancel(course)
    while not course.is_over:
        await course.news.wait()


async def follow(exchange: Exchange, course: Course, number: int) -> None:
    """Send the events of a response from `number` on, until its end. Who leaves stops nothing."""
    exchange.last_words = lambda failure: error_frame(failure, number)
    await exchange.open_stream(CONTENT_TYPE, STREAM_HEADERS)
    async with until_gone(exchange):
        while True:
            news = course.news
            if waiting := course.frames[number : number + MAX_FRAMES]:
                number += len(waiting)
                await exchange.write(b"".join(waiting))
            elif course.is_over:
                break
            else:
                with anyio.move_on_after(exchange.services.settings.ping_s) as patience:
                    await news.wait()
                if patience.cancelled_caught:
                    await exchange.write(comment("", None))
        await exchange.finish()
