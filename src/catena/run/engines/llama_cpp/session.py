"""A loaded GGUF model: turns requests into calls of the library and its chunks into events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

import anyio.to_thread
import msgspec

from catena.core.errors import CatenaError, ContextError, EngineError, InputError, UnsupportedError
from catena.core.messages import ChatRequest, Event, GenerateRequest, Progress, Timings, Usage
from catena.core.protocols import SessionFacts
from catena.run.engines.llama_cpp import grammar, wire, worker
from catena.run.engines.llama_cpp.asking import Asking, translate
from catena.run.engines.llama_cpp.call import Call, Refused
from catena.run.engines.llama_cpp.choices import Choices
from catena.run.engines.llama_cpp.header import Header
from catena.run.engines.llama_cpp.hosted import Hosted
from catena.run.engines.llama_cpp.kept import Kept
from catena.run.engines.llama_cpp.process import Process
from catena.watch import metrics

MAX_TRIED_GRAMMARS = 256
DRAFTED = metrics.counter("catena_run_drafted_tokens_total", "Tokens guessed ahead.").labels()
ACCEPTED = metrics.counter("catena_run_accepted_tokens_total", "Tokens guessed ahead as the model chose them.").labels()


class Session(Hosted):
    """A model that generates."""

    def __init__(
        self,
        process: Process,
        facts: SessionFacts,
        header: Header,
        adapters: tuple[str, ...],
        kept: Kept | None = None,
    ) -> None:
        super().__init__(process, facts)
        self._kept = kept
        self._header = header
        self._adapters = adapters
        self._tried: dict[str, None] = {}

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event]:
        """Events of one request; closing the generator frees the slot within one token, or one batch of the prompt.

        Raises ContextError, UnsupportedError, InputError, NotFoundError (an adapter) before any event but Progress,
        EngineError when the library broke.
        """
        self.check_open()
        asking = translate(request, self._header, self._adapters, self.facts.slots)
        if asking.grammar is not None:
            await self._try(asking.grammar)
        if not self.slots.try_take(asking.num_choices):
            yield Progress("queued")
            await self.take(asking.num_choices)
        call = self._start(asking)
        choices = Choices(asking)
        usage, timings = Usage(0, 0), Timings()
        try:
            while (raw := await call.chunk()) is not None:
                chunk = wire.decode(raw)
                if chunk.error is not None:
                    raise self._failure(chunk.error, asking)
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
        DRAFTED.add(timings.drafted)
        ACCEPTED.add(timings.accepted)
        yield msgspec.structs.replace(usage, reasoning_tokens=choices.num_reasoning)
        yield timings

    async def count(self, request: GenerateRequest) -> int:
        """Tokens of the prompt: the library says so before it computes anything, and is stopped there.

        Raises what `generate` raises before any event, but for ContextError.
        """
        self.check_open()
        asking = translate(request, self._header, self._adapters, self.facts.slots)
        await self.take(asking.num_choices)
        call = self._start(asking)
        try:
            while (raw := await call.chunk()) is not None:
                chunk = wire.decode(raw)
                if chunk.prompt_progress is not None:
                    return chunk.prompt_progress.total
                if chunk.error is not None and chunk.error.type == wire.CONTEXT_EXCEEDED:
                    return chunk.error.n_prompt_tokens
                if chunk.error is not None:
                    raise self._failure(chunk.error, asking)
        except Refused:
            raise _refusal(asking) from None
        finally:
            call.stop()
        raise EngineError("llama.cpp did not say how long the prompt is")

    async def prompt(self, request: ChatRequest) -> str:
        """The conversation as its chat template writes it. Raises what `generate` raises before any event."""
        asking = translate(request, self._header, self._adapters, self.facts.slots)
        if asking.has_media:
            raise UnsupportedError("pictures and sounds have no tokens to show", hint="count them", param="messages")
        try:
            return wire.decode_prompt(await self.post("/apply-template", asking.body))
        except Refused:
            raise _refusal(asking) from None

    async def before_end(self) -> None:
        """Keep the states of the slots for the next session of the model, as far as there is room for them."""
        if self._kept is None or self.is_broken or not await anyio.to_thread.run_sync(self._kept.begin):
            return
        for slot in range(self.slots.total):
            name = f"slot-{slot}.bin"
            body = {"slot": slot, "name": name, "most_bytes": await anyio.to_thread.run_sync(self._kept.room_bytes)}
            try:
                num_tokens = wire.decode_saved(await self.whole(worker.SAVE, msgspec.json.encode(body)))
            except (Refused, EngineError):
                self._kept.drop(name)
            else:
                await anyio.to_thread.run_sync(self._kept.add, name, num_tokens)
        await anyio.to_thread.run_sync(self._kept.end)

    async def metrics(self) -> str:
        """The library's own counters, in Prometheus text."""
        self.check_open()
        return (await self.whole(worker.METRICS)).decode()

    def _start(self, asking: Asking) -> Call:
        kind = worker.CHAT if asking.is_chat else worker.COMPLETION
        give = partial(self.slots.give, asking.num_choices)
        return self.process.ask(kind, msgspec.json.encode(asking.body), give)

    def _check_context(self, prompt_tokens: int, asking: Asking) -> None:
        needed = prompt_tokens + asking.num_needed
        if needed > self.facts.context_tokens:
            raise ContextError(needed, self.facts.context_tokens)

    def _failure(self, failure: wire.Failure, asking: Asking) -> CatenaError:
        error = wire.error_from(failure, asking.num_needed, self.facts.context_tokens)
        return _refusal(asking) if asking.has_media and isinstance(error, InputError) else error

    async def _try(self, text: str) -> None:
        """Have the library begin an answer by this grammar, once; one that it cannot read would bind nothing."""
        trial = grammar.trial(text)
        if trial is None or text in self._tried:
            return
        body = {"prompt": "a", "max_tokens": 2, "temperature": 0, "stream": True, "grammar": trial}
        asking = Asking(body, is_chat=False, num_choices=1, max_tokens=2, logprobs=None)
        await self.take(1)
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
    if asking.has_media:
        return InputError("llama.cpp cannot read a picture or a sound", hint="it may be broken", param="messages")
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
        drafted=timings.drafted + durations.draft_n,
        accepted=timings.accepted + durations.draft_n_accepted,
    )
