"""POST /v1/chat/completions: a conversation continued, at once or as a stream."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import ChatRequest, OutputFormat, Tool, ToolChoice
from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai import fields, parameters
from catena.reach.gateway.protocols.openai.chat_form import ChatRenderer, chat_completion
from catena.reach.gateway.protocols.openai.messages import Turn, messages
from catena.reach.gateway.protocols.openai.naming import Naming
from catena.reach.gateway.protocols.openai.tools import Function, check_output, choice_of, named, tools_of
from catena.reach.gateway.sampling import MAX_LOGPROBS, within
from catena.reach.gateway.schemas import schema_output
from catena.reach.gateway.wire import check_fields, convert, read_json


class FunctionWire(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolWire(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    function: FunctionWire | None = None
    custom: Any = None


class NamedFunction(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class NamedTool(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    function: NamedFunction | None = None
    custom: Any = None
    allowed_tools: Any = None


class SchemaWire(Struct, frozen=True, forbid_unknown_fields=True):
    """Without a schema, any JSON object is meant, as in the original."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class FormatWire(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    json_schema: SchemaWire | None = None


class TemplateWire(Struct, frozen=True, forbid_unknown_fields=True):
    enable_thinking: bool | None = None


class ChatWire(parameters.Common, frozen=True, kw_only=True):
    """The body. What is not here is not honoured; `fields.CHAT` says what becomes of it."""

    messages: list[Turn]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[ToolWire] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: FormatWire | None = None
    reasoning_effort: parameters.Effort | None = None
    chat_template_kwargs: TemplateWire | None = None


async def complete(exchange: Exchange) -> None:
    """Answer POST /v1/chat/completions."""
    body = await read_json(exchange)
    check_fields(body, fields.CHAT, exchange.warnings)
    wire = convert(body, ChatWire)
    request = to_request(wire, exchange.warnings)
    exchange.enter("openai.chat")
    if wire.stream:
        has_usage = wire.stream_options is not None and bool(wire.stream_options.include_usage)
        renderer = ChatRenderer(has_usage=has_usage, has_logprobs=bool(wire.logprobs))
        await answering.stream(exchange, request, renderer)
        return
    accepted, reply = await answering.whole(exchange, request)
    naming = Naming.of("chatcmpl", accepted)
    await exchange.answer(200, chat_completion(naming, reply, has_logprobs=bool(wire.logprobs)))


def to_request(wire: ChatWire, warnings: list[str]) -> ChatRequest:
    """What is asked, in our own words. Raises InputError or UnsupportedError naming the parameter."""
    parameters.check_common(wire, warnings)
    output = parameters.grammar_output(wire, _output(wire.response_format))
    tools = _tools(wire.tools or [])
    choice = _choice(wire.tool_choice, tools)
    check_output(tools, choice, output, "response_format")
    return ChatRequest(
        model=wire.model,
        messages=messages(wire.messages),
        sampling=parameters.sampling(wire, max_tokens=_max_tokens(wire), logprobs=_logprobs(wire)),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls is not False,
        output=output,
        adapters=parameters.adapters(wire),
        think=_think(wire, warnings),
    )


def _max_tokens(wire: ChatWire) -> int | None:
    if wire.max_completion_tokens is None:
        return wire.max_tokens
    if wire.max_tokens is not None and wire.max_tokens != wire.max_completion_tokens:
        raise InputError("max_tokens and max_completion_tokens differ", param="max_tokens", hint="send one of them")
    if wire.max_completion_tokens < 1:
        raise InputError("max_completion_tokens must be at least 1", param="max_completion_tokens")
    return wire.max_completion_tokens


def _logprobs(wire: ChatWire) -> int | None:
    within("top_logprobs", wire.top_logprobs, 0, MAX_LOGPROBS)
    if not wire.logprobs:
        if wire.top_logprobs:
            raise InputError("top_logprobs needs logprobs", param="top_logprobs", hint="set logprobs to true")
        return None
    return wire.top_logprobs or 0


def _think(wire: ChatWire, warnings: list[str]) -> bool | None:
    if wire.chat_template_kwargs is not None and wire.chat_template_kwargs.enable_thinking is not None:
        return wire.chat_template_kwargs.enable_thinking
    return parameters.think(wire.reasoning_effort, "reasoning_effort", warnings)


def _output(wire: FormatWire | None) -> OutputFormat:
    match wire.type if wire else "text":
        case "text":
            return OutputFormat()
        case "json_object":
            return OutputFormat("json")
        case "json_schema":
            if wire is None or wire.json_schema is None:
                raise InputError("response_format.json_schema is missing", param="response_format.json_schema")
            if wire.json_schema.schema is None:
                return OutputFormat("json")
            return schema_output(wire.json_schema.schema, "response_format")
        case _:
            raise InputError(
                "response_format.type must be text, json_object or json_schema", param="response_format.type"
            )


def _tools(wires: list[ToolWire]) -> tuple[Tool, ...]:
    functions: list[tuple[str, Function]] = []
    for index, wire in enumerate(wires):
        where = f"tools[{index}]"
        if wire.type != "function":
            raise UnsupportedError(f"{where}: only tools of type function are supported", param=f"{where}.type")
        function = wire.function
        if function is None:
            raise InputError(f"{where}: function is missing", param=f"{where}.function")
        found = Function(function.name, function.description, function.parameters, function.strict)
        functions.append((f"{where}.function", found))
    return tools_of(functions)


def _choice(wire: str | NamedTool | None, tools: tuple[Tool, ...]) -> ToolChoice:
    match wire:
        case NamedTool(type="function", function=NamedFunction(name=name)):
            return named(name, tools)
        case NamedTool():
            raise UnsupportedError("tool_choice takes none, auto, required or one function", param="tool_choice")
        case _:
            return choice_of(wire, tools)
