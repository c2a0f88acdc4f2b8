"""A request checked and made plain, for engines that choose token by token and bind answers to no grammar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from catena.core.errors import ContextError, InputError, NotFoundError, UnsupportedError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    GenerateRequest,
    Message,
    Sampling,
    Text,
    message_text,
)

MAX_LOGPROBS = 20
# Token ids of a conversation (its messages as chat templates take them, and further words of the template).
Render = Callable[[list[dict[str, Any]], dict[str, Any]], list[int]]
Encode = Callable[[str], list[int]]


class Asking(Struct, frozen=True):
    """What is to be computed: the prompt's tokens, at most `max_tokens` more for each choice, `echo` before them."""

    ids: list[int]
    max_tokens: int
    sampling: Sampling
    echo: str = ""


def check(request: GenerateRequest, num_vocabulary: int, slots: int) -> None:
    """Raises InputError for what nothing can honour, UnsupportedError for what these engines cannot, NotFoundError for
    an adapter."""
    sampling = request.sampling
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    if sampling.num_choices < 1:
        raise InputError("n must be at least 1", param="n")
    if sampling.num_choices > slots:
        raise UnsupportedError(f"this session makes 1 to {slots} choices", hint="ask several times", param="n")
    if "" in sampling.stop:
        raise InputError("a stop string is empty", param="stop")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        raise InputError(f"logprobs must be 0 to {MAX_LOGPROBS}", param="logprobs")
    if not all(0 <= token < num_vocabulary for token in sampling.logit_bias):
        raise InputError(f"a token id is outside the vocabulary of {num_vocabulary}", param="logit_bias")
    if sampling.temperature is not None and sampling.temperature < 0:
        raise InputError("temperature must not be negative", param="temperature")
    if sampling.repeat_penalty is not None and sampling.repeat_penalty <= 0:
        raise InputError("repeat_penalty must be more than 0", param="repeat_penalty")
    if request.output.kind != "text":
        raise UnsupportedError(
            "this engine cannot bind an answer to a format",
            hint="ask for text, or use a GGUF model",
            param="response_format",
        )
    for name in request.adapters:
        raise NotFoundError(f"adapter {name!r} is not loaded with this model", hint="loaded: none")


def prompt_ids(
    request: GenerateRequest, template: str | None, num_vocabulary: int, encode: Encode, render: Render
) -> list[int]:
    """The tokens of the prompt. Raises InputError, UnsupportedError."""
    if isinstance(request, ChatRequest):
        return _chat(request, template, render)
    if request.suffix:
        raise UnsupportedError("text cannot be filled in before a suffix", param="suffix")
    if request.echo and (not isinstance(request.prompt, str) or request.sampling.logprobs is not None):
        raise UnsupportedError("echo works with a text prompt and without logprobs", param="echo")
    if not request.prompt:
        raise InputError("the prompt is empty", param="prompt")
    if isinstance(request.prompt, str):
        return encode(request.prompt)
    if not all(0 <= token < num_vocabulary for token in request.prompt):
        raise InputError(f"a token id is outside the vocabulary of {num_vocabulary}", param="prompt")
    return list(request.prompt)


def fitted(request: GenerateRequest, ids: list[int], context_tokens: int) -> Asking:
    """`request` as it fits the context. Raises ContextError."""
    sampling = request.sampling
    limit = sampling.max_tokens
    needed = len(ids) + (1 if limit is None or sampling.fills_context else limit)
    if needed > context_tokens:
        raise ContextError(needed, context_tokens)
    room = context_tokens - len(ids)
    echo = request.prompt if isinstance(request, CompletionRequest) and request.echo else ""
    return Asking(ids, room if limit is None else min(room, limit), sampling, echo if isinstance(echo, str) else "")


def _chat(request: ChatRequest, template: str | None, render: Render) -> list[int]:
    if not template:
        raise UnsupportedError(
            f"{request.model} has no chat template", hint="use completions, or choose a chat model", param="messages"
        )
    if not request.messages:
        raise InputError("a chat needs at least one message", param="messages")
    if not all(isinstance(part, Text) for message in request.messages for part in message.parts):
        raise UnsupportedError("this model reads text only", hint="send text parts only", param="messages")
    _check_tools(request)
    words: dict[str, Any] = {}
    if request.think is not None:
        if "enable_thinking" in template:
            words["enable_thinking"] = request.think
        elif request.think != ("<think>" in template):
            raise UnsupportedError("this model cannot switch its reasoning on or off", param="think")
    return render([_message(message) for message in request.messages], words)


def _check_tools(request: ChatRequest) -> None:
    choice = request.tool_choice
    if choice.mode == "named" and all(tool.name != choice.name for tool in request.tools):
        raise InputError("tool_choice names a tool that is not among the tools", param="tool_choice")
    if choice.mode == "required" and not request.tools:
        raise InputError("tool_choice asks for a call but there are no tools", param="tool_choice")
    if request.tools and choice.mode != "none":
        raise UnsupportedError(
            "this engine cannot bind an answer to the form of a tool call",
            hint="leave the tools out, or use a GGUF model",
            param="tools",
        )


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message_text(message)}
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        body["name"] = message.name
    if message.reasoning:
        body["reasoning_content"] = message.reasoning
    return body
