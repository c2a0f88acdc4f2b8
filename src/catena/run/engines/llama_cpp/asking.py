"""A request in the library's own words: each field is translated or refused, as it ignores what it does not know."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from catena.core.errors import InputError, NotFoundError, UnsupportedError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    GenerateRequest,
    Message,
    Sampling,
    Text,
    Tool,
    message_text,
)
from catena.run.engines.llama_cpp import grammar, media, tools
from catena.run.engines.llama_cpp.header import Header

# 0xFFFFFFFF means "draw one at random" to the library, so seeds are taken modulo it.
_SEED_MODULUS = 0xFFFF_FFFF
MAX_LOGPROBS = 20


class Asking(Struct, frozen=True):
    """A request ready for the library: its body, the grammar that binds it, and how its answer is to be read.

    `tools` are set when the calls stand in the text, by our own grammar; `must_call` when an answer without a call
    would break the caller's wish.
    """

    body: dict[str, Any]
    is_chat: bool
    num_choices: int
    max_tokens: int | None
    logprobs: int | None
    grammar: str | None = None
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    echo: str = ""
    fills_context: bool = False
    has_media: bool = False

    @property
    def num_needed(self) -> int:
        """Tokens that must be free after the prompt."""
        return 1 if self.max_tokens is None or self.fills_context else self.max_tokens


def translate(request: GenerateRequest, header: Header, adapters: tuple[str, ...], slots: int) -> Asking:
    """`request` for a model with this header. Raises UnsupportedError, InputError, NotFoundError for an adapter."""
    sampling = request.sampling
    if sampling.num_choices < 1:
        raise InputError("n must be at least 1", param="n")
    if sampling.num_choices > slots:
        raise UnsupportedError(
            f"{sampling.num_choices} choices were asked for; this session makes 1 to {slots} at a time",
            hint="ask several times, or raise run.slots",
            param="n",
        )
    body: dict[str, Any] = {"stream": True, "return_progress": True, "stream_options": {"include_usage": True}}
    body |= _sampling(sampling, header)
    body["lora"] = _scales(request.adapters, adapters)
    if isinstance(request, CompletionRequest):
        return _completion(request, body, header)
    return _chat(request, body, header)


def _chat(request: ChatRequest, body: dict[str, Any], header: Header) -> Asking:
    if not header.template:
        raise UnsupportedError(
            f"{request.model} has no chat template", hint="use completions, or choose a chat model", param="messages"
        )
    if not request.messages:
        raise InputError("a chat needs at least one message", param="messages")
    has_media = media.check(request.messages, header.reads)
    offered = _offered(request)
    knows_tools = "tools" in header.template
    is_read_from_text = bool(offered) and not knows_tools
    messages = request.messages if knows_tools else tools.instruct(request.messages, offered, request.tool_choice)
    body["messages"] = [_message(message) for message in messages]
    if request.think is not None:
        body |= _thinking(request.think, header)
    sampling = request.sampling
    if sampling.logprobs is not None:
        # The library gives nothing at all for 0 alternatives.
        body |= {"logprobs": True, "top_logprobs": max(1, sampling.logprobs)}
    must_call = bool(offered) and request.tool_choice.mode in ("required", "named")
    binding = None
    if is_read_from_text:
        parallel = request.parallel_tool_calls
        binding = grammar.of_tools(offered, must_call=must_call, parallel=parallel, output=request.output)
    else:
        binding = grammar.of_output(request.output)
        if offered:
            if binding is not None:
                raise UnsupportedError("this model's own tool calls exclude an output format", param="response_format")
            body["tools"] = [_tool(tool) for tool in offered]
            body["tool_choice"] = "required" if must_call else "auto"
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if binding is not None:
        body["grammar"] = binding
    return Asking(
        body,
        is_chat=True,
        num_choices=sampling.num_choices,
        max_tokens=sampling.max_tokens,
        fills_context=sampling.fills_context,
        logprobs=sampling.logprobs,
        grammar=binding,
        tools=offered if is_read_from_text else (),
        must_call=must_call,
        has_media=has_media,
    )


def _completion(request: CompletionRequest, body: dict[str, Any], header: Header) -> Asking:
    if request.suffix:
        raise UnsupportedError("text cannot be filled in before a suffix", param="suffix")
    is_text = isinstance(request.prompt, str)
    if request.echo and (not is_text or request.sampling.logprobs is not None):
        raise UnsupportedError(
            "echo works with a text prompt and without logprobs", hint="leave echo or the other out", param="echo"
        )
    if not request.prompt:
        raise InputError("the prompt is empty", param="prompt")
    if not isinstance(request.prompt, str) and any(
        not 0 <= token < (header.num_vocabulary or token + 1) for token in request.prompt
    ):
        raise InputError(f"a token id is outside the vocabulary of {header.num_vocabulary}", param="prompt")
    body["prompt"] = request.prompt
    if request.sampling.logprobs is not None:
        body["logprobs"] = max(1, request.sampling.logprobs)
    binding = grammar.of_output(request.output)
    if binding is not None:
        body["grammar"] = binding
    return Asking(
        body,
        is_chat=False,
        num_choices=request.sampling.num_choices,
        max_tokens=request.sampling.max_tokens,
        fills_context=request.sampling.fills_context,
        logprobs=request.sampling.logprobs,
        grammar=binding,
        echo=request.prompt if request.echo and isinstance(request.prompt, str) else "",
    )


def _sampling(sampling: Sampling, header: Header) -> dict[str, Any]:
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        raise InputError(f"logprobs must be 0 to {MAX_LOGPROBS}", param="logprobs")
    if "" in sampling.stop:
        raise InputError("a stop string is empty", param="stop")
    if header.num_vocabulary and any(not 0 <= token < header.num_vocabulary for token in sampling.logit_bias):
        raise InputError(f"a token id is outside the vocabulary of {header.num_vocabulary}", param="logit_bias")
    body: dict[str, Any] = {
        "max_tokens": -1 if sampling.max_tokens is None else sampling.max_tokens,
        "n": sampling.num_choices,
        "ignore_eos": sampling.ignore_eos,
    }
    for name in ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty"):
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.seed is not None:
        body["seed"] = sampling.seed % _SEED_MODULUS
    if sampling.stop:
        # Verbose, or the library does not say which of them ended the answer.
        body |= {"stop": sampling.stop, "verbose": True}
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return body


def _scales(wanted: dict[str, float], loaded: tuple[str, ...]) -> list[dict[str, Any]]:
    for name in wanted:
        if name not in loaded:
            raise NotFoundError(
                f"adapter {name!r} is not loaded with this model", hint=f"loaded: {', '.join(loaded) or 'none'}"
            )
    return [{"id": index, "scale": wanted.get(name, 0.0)} for index, name in enumerate(loaded)]


def _offered(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that may be called now; ToolChoice `none` hides them all, `named` all but one."""
    match request.tool_choice.mode:
        case "none":
            return ()
        case "named":
            named = tuple(tool for tool in request.tools if tool.name == request.tool_choice.name)
            if not named:
                raise InputError("tool_choice names a tool that is not among the tools", param="tool_choice")
            return named
        case "required":
            if not request.tools:
                raise InputError("tool_choice asks for a call but there are no tools", param="tool_choice")
            return request.tools
        case "auto":
            return request.tools


def _message(message: Message) -> dict[str, Any]:
    is_text = all(isinstance(part, Text) for part in message.parts)
    body: dict[str, Any] = {
        "role": message.role,
        "content": message_text(message) if is_text else media.content(message),
    }
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


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _thinking(is_wanted: bool, header: Header) -> dict[str, Any]:
    if "enable_thinking" in header.template:
        return {"chat_template_kwargs": {"enable_thinking": is_wanted}}
    if is_wanted != ("<think>" in header.template):
        raise UnsupportedError("this model cannot switch its reasoning on or off", param="think")
    return {}
