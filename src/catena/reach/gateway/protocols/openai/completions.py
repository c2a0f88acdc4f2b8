"""POST /v1/completions: raw text continued without a chat template, at once or as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import CompletionRequest, Delta, Event, Finished, OutputFormat, Reply, TokenLogprob, Usage
from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai import fields, parameters
from catena.reach.gateway.protocols.openai.chat_form import ChunkRenderer, usage_form
from catena.reach.gateway.protocols.openai.naming import Naming
from catena.reach.gateway.sampling import MAX_LOGPROBS, within
from catena.reach.gateway.wire import check_fields, convert, read_json

DEFAULT_MAX_TOKENS = 16
MAX_TOKEN_ID = 1 << 31
encode = msgspec.json.Encoder().encode


class CompletionWire(parameters.Common, frozen=True, kw_only=True):
    """The body. What is not here is not honoured; `fields.COMPLETION` says what becomes of it."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None


async def complete(exchange: Exchange) -> None:
    """Answer POST /v1/completions."""
    body = await read_json(exchange)
    check_fields(body, fields.COMPLETION, exchange.warnings)
    wire = convert(body, CompletionWire)
    request = to_request(wire, exchange.warnings)
    exchange.enter("openai.completions")
    if wire.stream:
        has_usage = wire.stream_options is not None and bool(wire.stream_options.include_usage)
        renderer = CompletionRenderer(has_usage=has_usage, has_logprobs=wire.logprobs is not None)
        await answering.stream(exchange, request, renderer)
        return
    accepted, reply = await answering.whole(exchange, request)
    naming = Naming.of("cmpl", accepted)
    await exchange.answer(200, _completion(naming, reply, has_logprobs=wire.logprobs is not None))


def to_request(wire: CompletionWire, warnings: list[str]) -> CompletionRequest:
    """What is asked, in our own words. Raises InputError or UnsupportedError naming the parameter."""
    parameters.check_common(wire, warnings)
    within("logprobs", wire.logprobs, 0, MAX_LOGPROBS)
    if wire.echo and wire.logprobs is not None:
        raise UnsupportedError("logprobs of an echoed prompt are not known", param="logprobs", hint="leave echo out")
    max_tokens = DEFAULT_MAX_TOKENS if wire.max_tokens is None else wire.max_tokens
    return CompletionRequest(
        model=wire.model,
        prompt=_prompt(wire.prompt),
        sampling=parameters.sampling(wire, max_tokens=max_tokens, logprobs=wire.logprobs),
        output=parameters.grammar_output(wire, OutputFormat()),
        adapters=parameters.adapters(wire),
        echo=bool(wire.echo),
        suffix=wire.suffix or "",
    )


def _prompt(prompt: str | list[Any]) -> str | tuple[int, ...]:
    """One text or one list of token ids; also wrapped in a list of one, as many clients do."""
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if not prompt:
        raise InputError("prompt must not be empty", param="prompt")
    if not all(isinstance(token, int) for token in prompt):
        raise UnsupportedError("one prompt per request", param="prompt", hint="send several requests at a time")
    return token_ids(prompt, "prompt")


def token_ids(ids: Sequence[int], param: str) -> tuple[int, ...]:
    """`ids` as token ids. Raises InputError for one that cannot be one."""
    if not all(0 <= token < MAX_TOKEN_ID for token in ids):
        raise InputError(f"a token id in {param} is out of range", param=param)
    return tuple(ids)


def _completion(naming: Naming, reply: Reply, *, has_logprobs: bool) -> bytes:
    choices = [
        {
            "index": index,
            "text": choice.text,
            "logprobs": _logprobs(choice.logprobs, 0)[0] if has_logprobs else None,
            "finish_reason": choice.reason,
        }
        for index, choice in enumerate(reply.choices)
    ]
    return encode(
        {
            **naming.head("text_completion"),
            "choices": choices,
            "usage": usage_form(reply.usage),
        }
    )


def _logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> tuple[dict[str, Any], int]:
    """The older form, its offsets in characters from `offset`; and the offset after it."""
    offsets: list[int] = []
    for one in logprobs:
        offsets.append(offset)
        offset += len(one.token)
    form = {
        "tokens": [one.token for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [{other.token: other.logprob for other in one.top} for one in logprobs],
        "text_offset": offsets,
    }
    return form, offset


class CompletionRenderer(ChunkRenderer):
    """Writes chunks of text."""

    prefix = "cmpl"
    kind = "text_completion"

    def __init__(self, *, has_usage: bool, has_logprobs: bool) -> None:
        super().__init__(has_usage=has_usage, has_logprobs=has_logprobs)
        self._offsets: dict[int, int] = {}

    def event(self, event: Event) -> bytes:
        match event:
            case Delta():
                logprobs = b"null"
                if self._has_logprobs and event.logprobs:
                    form, self._offsets[event.choice] = _logprobs(event.logprobs, self._offsets.get(event.choice, 0))
                    logprobs = encode(form)
                return self._chunk(event.choice, encode(event.text), logprobs, b"null")
            case Finished():
                return self._chunk(event.choice, b'""', b"null", encode(event.reason))
            case Usage() if self._has_usage:
                return self._usage(event)
            case _:
                return b""

    def _chunk(self, choice: int, text: bytes, logprobs: bytes, reason: bytes) -> bytes:
        return b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            choice,
            text,
            logprobs,
            reason,
            self._tail,
        )
