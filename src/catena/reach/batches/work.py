"""The work on one batch, from the check of its input to its files; every step can be done again after a kill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from msgspec import Struct

from catena.core.errors import CatenaError, IntegrityError, NotFoundError, UnauthenticatedError
from catena.core.ids import new_id
from catena.core.settings import ReachSettings
from catena.reach.access import Access, Identity
from catena.reach.batches.batch import Batch, Counts, Problem, Spent, Status
from catena.reach.batches.batches import Batches
from catena.reach.batches.files import Files, new_file_id
from catena.reach.batches.journal import ERRORS, OUTPUT, Entry, Journal, spent_in
from catena.reach.batches.lines import Line, Source, check

# A request that finds no turn is asked again until one is free; one that fails for want of something, so many times.
MIN_RETRY_S, MAX_RETRY_S = 1.0, 60.0
MAX_TRIES = 5
EXPIRED = {"code": "batch_expired", "message": "This request was not answered within the completion window."}
T = TypeVar("T")


class Answered(Struct, frozen=True):
    """What a request of a batch was answered, as a client would have got it."""

    status: int
    headers: dict[str, str]
    body: bytes


# Answers the request with this body at this path, with the rights of this caller.
Ask = Callable[[str, bytes, Identity], Awaitable[Answered]]


class Means(Struct, frozen=True):
    """What all works share: `turns` are the places for requests, `works` those that go on."""

    batches: Batches
    files: Files
    access: Access
    settings: ReachSettings
    turns: anyio.CapacityLimiter
    ask: Ask
    works: dict[str, Work]


class Work:
    """One batch on its way. Cancelling `scope` ends its requests; then its status says how it is to be finished."""

    def __init__(self, means: Means, batch: Batch) -> None:
        self.id = batch.id
        self.owner = batch.owner
        self.scope = anyio.CancelScope()
        self._means = means
        self._batch = batch
        self._is_whole = False
        self._problem: Problem | None = None

    async def run(self) -> None:
        """Do what is left to do; returns when the batch is over."""
        try:
            batch = self._batch
            self.scope.deadline = anyio.current_time() + batch.expires_at - self._means.batches.now_s()
            with self.scope:
                await anyio.lowlevel.checkpoint()  # what is late already is not begun
                try:
                    if batch.status == "validating":
                        batch = await self._check(batch)
                    if batch.status == "in_progress":
                        await self._answer_all(batch)
                except CatenaError as error:
                    self._problem = Problem(error.code, error.message, error.param)
            await _blocking(self._finish)
        finally:
            self._means.works.pop(self.id, None)

    async def _check(self, batch: Batch) -> Batch:
        """Read the whole input once; a batch with a wrong line fails before anything of it runs."""
        settings = self._means.settings
        checked = await _blocking(
            partial(
                check,
                partial(self._means.files.content, batch.input_file_id),
                batch.endpoint,
                max_lines=settings.max_batch_lines,
                max_line_bytes=settings.max_body_bytes,
                max_depth=settings.max_json_depth,
            )
        )
        counts = Counts(checked.num_lines)
        if checked.problems:
            return await self._advance("failed", counts=counts, problems=checked.problems)
        return await self._advance("in_progress", counts=counts, model=checked.model)

    async def _advance(self, status: Status, **changes: Any) -> Batch:
        return await _blocking(partial(self._means.batches.advance, self.id, ("validating",), status, **changes))

    async def _answer_all(self, batch: Batch) -> None:
        """Answer every line that the journal does not have yet."""
        means = self._means
        # Its row may be past its time; the content waits for us.
        content = partial(means.files.content, batch.input_file_id)
        opening = means.batches.journal(batch)
        with anyio.CancelScope(shield=True) as guard:  # else it might be open and nobody know
            journal = await _blocking(opening.__enter__)
            guard.shield = False
            try:
                with Source(content, means.settings.max_body_bytes) as source:
                    await self._share_turns(batch, source, journal)
            finally:
                opening.__exit__(None, None, None)
        self._is_whole = self._problem is None

    async def _share_turns(self, batch: Batch, source: Source, journal: Journal) -> None:
        """Have as many tasks answer lines as there are turns."""
        reading = anyio.Lock()
        async with anyio.create_task_group() as group:

            async def take_turns() -> None:
                try:
                    await self._take_turns(batch, source, reading, journal)
                except CatenaError as error:  # kept out of the group, which would wrap it
                    self._problem = Problem(error.code, error.message, error.param)
                    group.cancel_scope.cancel()

            for _ in range(self._means.settings.batch_concurrency):
                group.start_soon(take_turns)

    async def _take_turns(self, batch: Batch, source: Source, reading: anyio.Lock, journal: Journal) -> None:
        """Answer lines one after another, as long as there are some."""
        while True:
            async with self._means.turns:
                async with reading:
                    line = await _blocking(partial(source.next, journal.done))
                if line is None:
                    return
                entry = _entry(line, await self._answer(batch, line))
                # Not ended by a cancellation: the line is on the disk, or it is not counted.
                await _blocking(partial(journal.append, (entry,)))

    async def _answer(self, batch: Batch, line: Line) -> Answered:
        """The answer to a line; asks again while there is no turn for it. Raises UnauthenticatedError."""
        num_tries = 0
        while True:
            identity = self._means.access.standing(self.owner)
            if identity is None:
                error = UnauthenticatedError("the key that made this batch was revoked")
                error.code = "key_revoked"
                raise error
            answered = await self._means.ask(batch.endpoint, line.body, identity)
            num_tries += answered.status == 503
            if answered.status != 429 and (answered.status != 503 or num_tries >= MAX_TRIES):
                return answered
            wait = answered.headers.get("retry-after", "")
            await anyio.sleep(min(MAX_RETRY_S, max(MIN_RETRY_S, float(wait) if wait.isdecimal() else MIN_RETRY_S)))

    def _finish(self) -> None:
        """Say how it ended and under which names its files will be; put them there; say that it is over."""
        batches = self._means.batches
        batch = batches.find(self.id, self.owner)
        if batch.is_open and batch.outcome is None:
            batch = self._settle(batch)
        if not batch.is_open:
            return
        for file_id, name in ((batch.output_file_id, OUTPUT), (batch.error_file_id, ERRORS)):
            if file_id is not None:
                self._place(batch, file_id, name)
        assert batch.outcome is not None
        batches.advance(batch.id, ("finalizing", "cancelling"), batch.outcome)
        batches.forget(batch.id)

    def _settle(self, batch: Batch) -> Batch:
        batches = self._means.batches
        outcome = self._outcome(batch)
        counts, spent = batch.counts, Spent()
        if batches.folder(batch.id).exists() or (outcome == "expired" and batch.counts.total):
            with batches.journal(batch) as journal:
                if outcome == "expired":
                    self._expire(batch, journal)
                counts, spent = journal.counts, journal.spent
        return batches.advance(
            batch.id,
            ("validating", "in_progress", "cancelling"),
            "cancelling" if outcome == "cancelled" else "finalizing",
            outcome=outcome,
            counts=counts,
            spent=spent,
            problems=(self._problem,) if self._problem and outcome == "failed" else (),
            output_file_id=new_file_id() if counts.completed else None,
            error_file_id=new_file_id() if counts.failed else None,
        )

    def _expire(self, batch: Batch, journal: Journal) -> None:
        """Every line without an answer gets an error, as far as the input can still be read."""
        try:
            content = partial(self._means.files.content, batch.input_file_id)
            source = Source(content, self._means.settings.max_body_bytes)
        except (IntegrityError, NotFoundError):
            return
        with source:
            while line := source.next(journal.done):
                journal.append((_expired(line),), is_durable=False)

    def _outcome(self, batch: Batch) -> Status:
        if batch.status == "cancelling":
            return "cancelled"
        if self._problem is not None:
            return "failed"
        return "completed" if self._is_whole else "expired"

    def _place(self, batch: Batch, file_id: str, name: str) -> None:
        """The row first: a file without one would be swept away at the next start."""
        files = self._means.files
        written = self._means.batches.folder(batch.id) / name
        if not written.exists():
            return  # put in place before a kill
        draft, size_bytes = files.collect(file_id, written, self._means.batches.lines(written))
        filename = f"{batch.id}_{name}"
        file = files.named(
            batch.owner, filename, "batch_output", batch.output_keep_s, size_bytes=size_bytes, id=file_id
        )
        files.list_(file)
        files.move(draft, file)


def _entry(line: Line, answered: Answered) -> Entry:
    is_error = answered.status >= 400
    response: dict[str, Any] = {
        "status_code": answered.status,
        "request_id": answered.headers.get("x-request-id"),
        "body": msgspec.Raw(answered.body),
    }
    for name in ("catena-receipt", "catena-warning"):
        if name in answered.headers:
            response[name.replace("-", "_")] = answered.headers[name]
    text = _text(line, response, None)
    return Entry(line.custom_id, text, is_error, Spent() if is_error else spent_in(answered.body))


def _expired(line: Line) -> Entry:
    return Entry(line.custom_id, _text(line, None, EXPIRED), is_error=True)


def _text(line: Line, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    row = {"id": new_id("req").replace("req", "batch_req", 1), "custom_id": line.custom_id}
    return msgspec.json.encode({**row, "response": response, "error": error})


async def _blocking(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)
