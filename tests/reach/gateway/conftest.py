"""A gateway over a router that plays a script, asked in process or over loopback."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import msgspec
import pytest

from catena.core.errors import NotFoundError
from catena.core.ids import new_id
from catena.core.manifest import Manifest, Provenance, Signature, StoredModel, TensorSpec
from catena.core.messages import (
    Closed,
    Decision,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    Opened,
    Prediction,
    PredictRequest,
    Tensor,
    Timings,
    Usage,
)
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import Gateway, create
from catena.reach.gateway.server import Listening, listening
from catena.reach.router import Answer, CountedPrompt, EmbeddedAnswer, PredictedAnswer
from catena.reach.signatures import fitted
from catena.reach.ticket import Caller

MODEL = StoredModel(
    Manifest("tiny", "generate", "test", (), "Apache-2.0", Provenance("test"), facts={"context_tokens": 128}),
    "sha256:" + "ab" * 32,
    {},
)
PREDICTOR = StoredModel(
    Manifest(
        "net",
        "predict",
        "test",
        (),
        "Apache-2.0",
        Provenance("test"),
        Signature((TensorSpec("x", "float32", (-1, 2), "K"),), (TensorSpec("y", "float32", (-1, 2), "W"),)),
    ),
    "sha256:" + "cd" * 32,
    {},
)
HELLO: tuple[Event, ...] = (
    Delta(text="Hello"),
    Delta(text=" world"),
    Finished(0, "stop"),
    Usage(5, 2, cached_tokens=3),
    Timings(prefill_s=0.01, decode_s=0.02),
)
CHECKPOINT = "catena.local/test\n1\nAAAA\n\n— sig\n"


class Row(msgspec.Struct):
    name: str
    digest: str
    aliases: tuple[str, ...]
    manifest: Manifest
    added_at_ns: int = 1_700_000_000_000_000_000


class Script:
    """A router: plays `events`; an exception in their place is raised, a callable is awaited.

    `outcomes` gets `complete`, or `cut` with the exception's name, when a request ends.
    """

    def __init__(self) -> None:
        self.events: Iterable[Any] = HELLO
        self.refusal: Exception | None = None
        self.asked: list[GenerateRequest | EmbedRequest | PredictRequest] = []
        self.callers: list[Caller] = []
        self.outcomes: list[str] = []
        self.ended = threading.Event()
        self.vectors = (b"\x00\x00\x80?\x00\x00\x00\x00",)
        self.predictor = PREDICTOR
        self.outputs: tuple[Tensor, ...] = ()

    @asynccontextmanager
    async def generate(self, request: GenerateRequest, caller: Caller) -> AsyncGenerator[Answer]:
        receipt = self._open(request, caller)
        try:
            yield Answer(receipt, Decision("local", "test", model="tiny"), MODEL, self._play(receipt))
        except BaseException as error:
            self.outcomes.append(f"cut {type(error).__name__}")
            self.ended.set()
            raise
        self.outcomes.append("complete")
        self.ended.set()

    async def count(self, request: GenerateRequest, caller: Caller) -> CountedPrompt:
        receipt = self._open(request, caller)
        async for _ in self._play(receipt):
            pass
        return CountedPrompt(receipt, Decision("local", "test"), MODEL, 7)

    async def embed(self, request: EmbedRequest, caller: Caller) -> EmbeddedAnswer:
        receipt = self._open(request, caller)
        try:
            async for _ in self._play(receipt):
                pass
        except BaseException as error:
            self.outcomes.append(f"cut {type(error).__name__}")
            self.ended.set()
            raise
        vectors = self.vectors * len(request.inputs)
        return EmbeddedAnswer(receipt, Decision("local", "test"), MODEL, Embedded(vectors, 2, Usage(4, 0)))

    async def predict(self, request: PredictRequest, caller: Caller) -> PredictedAnswer:
        """`answer` of the fitted request; without it, the inputs come back under the names of the outputs."""
        model = self.predictor
        receipt = self._open(request, caller)
        request = fitted(request, model.manifest)
        ports = model.manifest.signature.outputs
        outputs = self.outputs or tuple(
            Tensor(port.name, given.dtype, given.shape, given.data, port.unit)
            for port, given in zip(ports, request.inputs, strict=True)
            if not request.outputs or port.name in request.outputs
        )
        try:
            async for _ in self._play(receipt):
                pass
        except BaseException as error:
            self.outcomes.append(f"cut {type(error).__name__}")
            raise
        self.outcomes.append("complete")
        return PredictedAnswer(receipt, Decision("local", "test"), model, Prediction(outputs))

    def _open(self, request: GenerateRequest | EmbedRequest | PredictRequest, caller: Caller) -> str:
        if request.model not in ("tiny", "default", self.predictor.name):
            raise NotFoundError("there is no such model", param="model")
        self.asked.append(request)
        self.callers.append(caller)
        if self.refusal:
            raise self.refusal
        return new_id("rcpt")

    async def _play(self, receipt: str) -> AsyncGenerator[Event]:
        for event in self.events:
            if isinstance(event, BaseException):
                if hasattr(event, "receipt"):
                    event.receipt = receipt
                raise event
            if callable(event):
                await event()
            else:
                yield event


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


class Log:
    """An audit log with two requests, one of another caller."""

    def __init__(self) -> None:
        self.receipts = (new_id("rcpt"), new_id("rcpt"))
        opened = [
            Opened(receipt, 1, "openai.chat", caller, "generate", Decision("local", "test"), "sha256:00")
            for receipt, caller in zip(self.receipts, ("local", "ctn_00000000"), strict=True)
        ]
        self.rows = [(one, index, None, None) for index, one in enumerate(opened)]

    def checkpoint(self) -> str:
        return CHECKPOINT

    def find(self, receipt: str) -> tuple[Opened, int, Closed | None, int | None]:
        for row in self.rows:
            if row[0].receipt == receipt:
                return row
        raise NotFoundError("the audit log knows no such receipt")

    def recent(self, limit: int, before: str | None = None) -> Sequence[Any]:
        return self.rows[::-1][:limit]

    def prove(self, receipt: str, salt: bytes | None = None) -> Any:
        return {"receipt": receipt, "proof": []}


class Response(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Door:
    """Asks the gateway in process."""

    def __init__(self, app: Gateway, script: Script, access: Access, log: Log) -> None:
        self.app = app
        self.script = script
        self.access = access
        self.log = log

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | Sequence[tuple[str, str]] = (),
        *,
        server: tuple[str, int] = ("127.0.0.1", 7411),
        pieces: Sequence[bytes] | None = None,
        leave_after: int | None = None,
    ) -> Response:
        """One request. `body` bytes go as they are, anything else as JSON; the client leaves after `leave_after`
        pieces of the answer (0: once its body is sent), or with None stays."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body) if body is not None else b""
        given = {"host": "localhost:7411"} | ({"content-type": "application/json"} if raw or pieces else {})
        lines = list(given.items()) if not isinstance(headers, dict) else list((given | headers).items())
        lines += [] if isinstance(headers, dict) else list(headers)
        if pieces is None:
            lines.append(("content-length", str(len(raw))))
        scope = {
            "type": "http",
            "method": method,
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in lines if value is not None],
            "server": server,
        }
        waiting = [raw] if pieces is None else list(pieces)
        has_left = anyio.Event()
        if leave_after == 0:
            has_left.set()
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if waiting:
                piece = waiting.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
            await has_left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if leave_after is not None and len(sent) > leave_after:
                has_left.set()
            await anyio.lowlevel.checkpoint()

        with anyio.fail_after(10):
            await self.app(scope, receive, send)
        if not sent:
            return Response(0, {}, b"")
        start = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Response(sent[0]["status"], start, b"".join(message.get("body", b"") for message in sent[1:]))

    async def post(self, path: str, body: Any, **options: Any) -> Response:
        return await self.ask("POST", path, body, **options)

    async def get(self, path: str, **options: Any) -> Response:
        return await self.ask("GET", path, **options)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def make_door() -> Callable[..., Door]:
    def make(key: bool = False, **settings: Any) -> Door:
        script, access, log = Script(), Access(Memory()), Log()
        if key:
            access.add("first")
        app = create(
            script,
            ReachSettings(**settings),
            access,
            models=lambda: [Row("tiny", MODEL.digest, ("default",), MODEL.manifest)],
            status=lambda: {"sessions": []},
            reader=log,
            trace=lambda receipt: {"receipt": receipt, "ok": True, "links": []},
        )
        return Door(app, script, access, log)

    return make


@pytest.fixture
def door(make_door: Callable[..., Door]) -> Door:
    return make_door()


@contextmanager
def over_loopback(door: Door, settings: ReachSettings) -> Iterator[tuple[Listening, Any]]:
    """Serve `door` on a thread of its own; gives the address and a portal to run things there."""
    with (
        anyio.from_thread.start_blocking_portal("asyncio", {"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(listening(door.app, settings)) as running,
    ):
        yield running, portal


@pytest.fixture
def serve(make_door: Callable[..., Door]) -> Iterator[Callable[..., tuple[Door, Listening, Any]]]:
    """Serve a scripted gateway over loopback until the test ends."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**settings: Any) -> tuple[Door, Listening, Any]:
            merged = {"port": 0, "drain_s": 0.2, **settings}
            door = make_door(**merged)
            running, portal = stack.enter_context(over_loopback(door, ReachSettings(**merged)))
            return door, running, portal

        yield start


def connect(url: str) -> socket.socket:
    """A raw connection to the gateway, whose waits are bounded."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)
