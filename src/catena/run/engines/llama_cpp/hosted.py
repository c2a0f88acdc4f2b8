"""What every session of this engine is: a process with a model in it, slots, and the library's own tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec

from catena.core.errors import EngineError, InputError, UnsupportedError
from catena.core.messages import ChatRequest, DetokeniseRequest, TokeniseRequest, Tokens
from catena.core.protocols import SessionFacts
from catena.run.engines.llama_cpp import wire, worker
from catena.run.engines.llama_cpp.call import Refused
from catena.run.engines.llama_cpp.process import Process
from catena.run.engines.llama_cpp.slots import Slots

# Less than the scheduler waits for a session to close.
CLOSING_TIME_S = 10.0


class Hosted:
    """One model in a process of its own, `facts.slots` requests at a time; the others wait in line here."""

    def __init__(self, process: Process, facts: SessionFacts) -> None:
        self.facts = facts
        self.slots = Slots(facts.slots)
        self.process = process
        self._is_closed = False

    async def tokenise(self, request: TokeniseRequest) -> Tokens:
        """The tokens of a text, or of a conversation as its chat template writes it, in the library's own spelling.

        Raises InputError, UnsupportedError for what the template does not allow, EngineError.
        """
        self.check_open()
        text = request.text
        if not isinstance(text, str):
            text = await self.prompt(text)
        body = {
            "content": text,
            "add_special": request.adds_special,
            "parse_special": request.reads_special,
            "with_pieces": True,
        }
        try:
            return wire.decode_tokens(await self.post("/tokenize", body))
        except Refused:
            raise InputError("llama.cpp refused the text", param="prompt") from None

    async def detokenise(self, request: DetokeniseRequest) -> str:
        """The text of token ids. Raises InputError for one that is not in the vocabulary."""
        self.check_open()
        try:
            return wire.decode_content(await self.post("/detokenize", {"tokens": request.ids}))
        except Refused:
            raise InputError("a token id is not in the vocabulary", param="tokens") from None

    @property
    def is_broken(self) -> bool:
        """Whether the process ended by itself; such a session answers nothing any more."""
        return self.process.has_ended

    async def close(self) -> None:
        """Refuse new requests, let running calls end, but not for ever, then end the process."""
        if self._is_closed:
            return
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(CLOSING_TIME_S):
                await self.slots.take(self.slots.total)
                await self.before_end()
            await self.process.end()

    async def before_end(self) -> None:
        """What is to be done once no request runs any more; cancelled when it takes too long."""

    async def prompt(self, request: ChatRequest) -> str:
        """A conversation as text. Raises UnsupportedError, unless the model generates."""
        raise UnsupportedError("this model has no chat template", hint="send a text", param="messages")

    async def whole(self, kind: int, body: bytes = b"", on_end: Callable[[], None] | None = None) -> bytes:
        """Everything that a call of this kind brings; `on_end` runs once the library let go of it, also when the
        caller left before. Raises Refused, EngineError."""
        call = self.process.ask(kind, body, on_end)
        pieces: list[bytes] = []
        try:
            while (piece := await call.chunk()) is not None:
                pieces.append(piece)
        finally:
            call.stop()
        return b"".join(pieces)

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """What the library's HTTP side answers. Raises Refused, EngineError."""
        return await self.whole(worker.POST, msgspec.json.encode({"path": path, "body": body}))

    def check_open(self) -> None:
        """Raise EngineError once the session was closed."""
        if self._is_closed:
            raise EngineError("the session is closed")

    async def take(self, count: int) -> None:
        """Wait for `count` slots. Raises EngineError when the session was closed meanwhile."""
        await self.slots.take(count)
        if self._is_closed:
            self.slots.give(count)
            self.check_open()
