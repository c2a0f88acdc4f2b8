"""A loaded GGUF model: turns requests into calls of the library and its chunks into events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import anyio
import msgspec

from catena.core.errors import ContextError, EngineError, InputError
from catena.core.messages import (
    DetokeniseRequest,
    Event,
    GenerateRequest,
    Progress,
    Timings,
    TokeniseRequest,
    Tokens,
    Usage,
)
from catena.core.protocols import SessionFacts
from catena.run.engines.llama_cpp import grammar, wire, worker
from catena.run.engines.llama_cpp.asking import Asking, translate
from catena.run.engines.llama_cpp.call import Call, Refused
from catena.run.engines.llama_cpp.choices import Choices
from catena.run.engines.llama_cpp.header import Header
from catena.run.engines.llama_cpp.process import Process
from catena.run.engines.llama_cpp.slots import Slots

MAX_TRIED_GRAMMARS = 256
# Less than the scheduler waits for a session to close.
CLOSING_TIME_S = 10.0


class Session:
    """One model in a process of its own, `facts.slots` requests at a time; the others wait in line here."""

    def __init__(self, process: Process, facts: SessionFacts, header: Header, adapters: tuple[str, ...]) -> None:
        self.facts = facts
        self.slots = Slots(facts.slots)
        self.process = process
        self._header = header
        self._adapters = adapters
        self._tried: dict[str, None] = {}
        self._is_closed = False

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event]:
        """Events of one request; closing the generator frees the slot within one token, or one batch of the prompt.

        Raises ContextError, UnsupportedError, InputError, NotFoundError (an adapter) before any event but Progress,
        EngineError when the library broke.
        """
        self._check_open()
        asking = translate(request, self._header, self._adapters, self.facts.slots)
        if asking.grammar is not None:
            await self._try(asking.grammar)
        if not self.slots.try_take(asking.num_choices):
            yield Progress("queued")
            await self._take(asking.num_choices)
        call = self._start(asking)
        choices = Choices(asking)
        usage, timings = Usage(0, 0), Timings()
        try:
            while (raw := await call.chunk()) is not None:
                chunk = wire.decode(raw)
                if chunk.error is not None:
                    raise wire.error_from(chunk.error, asking.num_needed, self.facts.context_tokens)
                if chunk.prompt_progress is not None:
                    progress = chunk.prompt_progress
                    self._check_context(progress.total, asking)
                    if progress.processed < progress.total:
                        yield Progress("prefill", progress.processed / progress.total)
                    continue
                for piece in chunk.choices:
                    for event in choices.feed(piece, chunk.stop_sequence):
                        yield event
                if chunk.usage is not None:
                    usage = _add_usage(usage, chunk.usage)
                if chunk.timings is not None:
                    timings = _longest(timings, chunk.timings)
        except Refused:
            raise _refusal(asking) from None
        finally:
            call.stop()
        choices.check_finished()
        yield msgspec.structs.replace(usage, reasoning_tokens=choices.num_reasoning)
        yield timings

    async def count(self, request: GenerateRequest) -> int:
        """Tokens of the prompt: the library says so before it computes anything, and is stopped there.

        Raises what `generate` raises before any event, but for ContextError.
        """
        self._check_open()
        asking = translate(request, self._header, self._adapters, self.facts.slots)
        await self._take(asking.num_choices)
        call = self._start(asking)
        try:
            while (raw := await call.chunk()) is not None:
                chunk = wire.decode(raw)
                if chunk.prompt_progress is not None:
                    return chunk.prompt_progress.total
                if chunk.error is not None and chunk.error.type == wire.CONTEXT_EXCEEDED:
                    return chunk.error.n_prompt_tokens
                if chunk.error is not None:
                    raise wire.error_from(chunk.error, asking.num_needed, self.facts.context_tokens)
        except Refused:
            raise _refusal(asking) from None
        finally:
            call.stop()
        raise EngineError("llama.cpp did not say how long the prompt is")

    async def tokenise(self, request: TokeniseRequest) -> Tokens:
        """The tokens of a text, or of a conversation as its chat template writes it, in the library's own spelling.

        Raises InputError, UnsupportedError for what the template does not allow, EngineError.
        """
        self._check_open()
        text = request.text
        if not isinstance(text, str):
            asking = translate(text, self._header, self._adapters, self.facts.slots)
            try:
                text = wire.decode_prompt(await self._post("/apply-template", asking.body))
            except Refused:
                raise _refusal(asking) from None
        body = {
            "content": text,
            "add_special": request.adds_special,
            "parse_special": request.reads_special,
            "with_pieces": True,
        }
        try:
            return wire.decode_tokens(await self._post("/tokenize", body))
        except Refused:
            raise InputError("llama.cpp refused the text", param="prompt") from None

    async def detokenise(self, request: DetokeniseRequest) -> str:
        """The text of token ids. Raises InputError for one that is not in the vocabulary."""
        self._check_open()
        try:
            return wire.decode_content(await self._post("/detokenize", {"tokens": request.ids}))
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
            await self.process.end()

    async def metrics(self) -> str:
        """The library's own counters, in Prometheus text."""
        self._check_open()
        call = self.process.ask(worker.METRICS)
        pages: list[bytes] = []
        while (page := await call.chunk()) is not None:
            pages.append(page)
        return b"".join(pages).decode()

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        """What the library's HTTP side answers. Raises Refused, EngineError."""
        call = self.process.ask(worker.POST, msgspec.json.encode({"path": path, "body": body}))
        pieces: list[bytes] = []
        try:
            while (piece := await call.chunk()) is not None:
                pieces.append(piece)
        finally:
            call.stop()
        return b"".join(pieces)

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the session is closed")

    async def _take(self, count: int) -> None:
        await self.slots.take(count)
        if self._is_closed:
            self.slots.give(count)
            self._check_open()

    def _start(self, asking: Asking) -> Call:
        kind = worker.CHAT if asking.is_chat else worker.COMPLETION
        give = partial(self.slots.give, asking.num_choices)
        return self.process.ask(kind, msgspec.json.encode(asking.body), give)

    def _check_context(self, prompt_tokens: int, asking: Asking) -> None:
        needed = prompt_tokens + asking.num_needed
        if needed > self.facts.context_tokens:
            raise ContextError(needed, self.facts.context_tokens)

    async def _try(self, text: str) -> None:
        """Have the library begin an answer by this grammar, once; one that it cannot read would bind nothing."""
        trial = grammar.trial(text)
        if trial is None or text in self._tried:
            return
        body = {"prompt": "a", "max_tokens": 2, "temperature": 0, "stream": True, "grammar": trial}
        asking = Asking(body, is_chat=False, num_choices=1, max_tokens=2, logprobs=None)
        await self._take(1)
        call = self._start(asking)
        answer = ""
        try:
            while (raw := await call.chunk()) is not None:
                answer += "".join(piece.text for piece in wire.decode(raw).choices)
        except Refused:
            raise _refusal(asking) from None
        finally:
            call.stop()
        if not answer or not grammar.WITNESS.startswith(answer):
            raise InputError(
                "the JSON schema cannot be turned into a grammar",
                hint="look for contradictions, overlapping oneOf, lookaround in patterns, unknown formats, open $ref",
                param="response_format",
            )
        if len(self._tried) >= MAX_TRIED_GRAMMARS:
            self._tried.pop(next(iter(self._tried)))
        self._tried[text] = None


def _refusal(asking: Asking) -> InputError:
    # The library's own words are left out: they may quote the prompt.
    what = "the chat template does not allow this conversation" if asking.is_chat else "llama.cpp refused the request"
    return InputError(what, hint="check the order of roles, the tools and the output format", param="messages")


def _add_usage(usage: Usage, counts: wire.Counts) -> Usage:
    """The library counts each choice by itself; the prompt they share counts once."""
    return Usage(
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=usage.completion_tokens + counts.completion_tokens,
        cached_tokens=max(usage.cached_tokens, counts.prompt_tokens_details.cached_tokens),
    )


def _longest(timings: Timings, durations: wire.Durations) -> Timings:
    return Timings(
        prefill_s=max(timings.prefill_s, durations.prompt_ms / 1000),
        decode_s=max(timings.decode_s, durations.predicted_ms / 1000),
    )
