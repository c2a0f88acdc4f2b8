"""What POST /v1/responses asks: its wire form, its bounds, and what it becomes inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import ChatRequest, OutputFormat, Tool, ToolChoice
from catena.reach.gateway.protocols.openai import parameters
from catena.reach.gateway.protocols.openai.responses import fields
from catena.reach.gateway.protocols.openai.responses.items import Item, kind_of, messages
from catena.reach.gateway.protocols.openai.tools import Function, check_name, check_output, choice_of, named, tools_of
from catena.reach.gateway.sampling import MAX_LOGPROBS, at_least_one, within
from catena.reach.gateway.schemas import schema_output
from catena.reach.gateway.wire import check_fields, convert

LOGPROBS = "message.output_text.logprobs"


class ReasoningWire(Struct, frozen=True):
    effort: parameters.Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: str | None = None
    mode: str | None = None


class FormatWire(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextWire(Struct, frozen=True):
    format: FormatWire | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class FunctionWire(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamespaceWire(Struct, frozen=True):
    name: str
    description: str
    tools: list[dict[str, Any]]


class AskedWire(parameters.Common, frozen=True, kw_only=True):
    """What questions and counts share. `input` may be missing only where a response before it is named."""

    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None


class ResponseWire(AskedWire, frozen=True, kw_only=True):
    """The body. What is not here is not honoured; `fields.CREATE` says what becomes of it."""

    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    store: bool | None = None
    background: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class Parts(Struct, frozen=True):
    """The parts of a question that have a form of their own, read."""

    tools: tuple[Tool, ...]
    shown_tools: list[dict[str, Any]]
    choice: ToolChoice
    output: OutputFormat
    reasoning: ReasoningWire
    text: TextWire
    think: bool | None


def parts(wire: AskedWire, warnings: list[str]) -> Parts:
    """Tools, choice, form of the answer and reasoning. Raises InputError or UnsupportedError naming the parameter."""
    reasoning = _nested(wire.reasoning, ReasoningWire, "reasoning", warnings)
    text = _nested(wire.text, TextWire, "text", warnings)
    if reasoning.summary or reasoning.generate_summary:
        warnings.append("reasoning.summary honoured with the whole reasoning: nothing here makes it shorter")
    offers = [_offer(tool, f"tools[{index}]", warnings) for index, tool in enumerate(wire.tools or [])]
    tools = tools_of(pair for offer in offers for pair in offer.functions)
    tools_shown, choice = _choice(wire.tool_choice, tools)
    output = parameters.grammar_output(wire, _output(text.format), "text.format")
    check_output(tools_shown, choice, output, "text.format")
    shown = [offer.shown for offer in offers if offer.shown]
    think = parameters.think(reasoning.effort, "reasoning.effort", warnings)
    return Parts(tools_shown, shown, choice, output, reasoning, text, think)


def check(wire: ResponseWire, warnings: list[str]) -> None:
    """Bounds. Raises InputError or UnsupportedError naming the parameter."""
    parameters.check_common(wire, warnings)
    within("top_logprobs", wire.top_logprobs, 0, MAX_LOGPROBS)
    for name in ("max_output_tokens", "max_tool_calls"):
        at_least_one(name, getattr(wire, name))
    if wire.stream_options is not None and wire.stream_options.include_usage is not None:
        warnings.append("stream_options.include_usage ignored: the last event always has the usage")
    parameters.check_metadata(wire.metadata)
    for index, name in enumerate(wire.include or ()):
        kind_of({"type": name}, fields.INCLUDE, f"include[{index}]")
        if fields.INCLUDE[name].treatment == "ignored":
            warnings.append(f"include {name} ignored: {fields.INCLUDE[name].note}")


def to_request(wire: ResponseWire, read: Parts, items: Sequence[Item], num_earlier: int) -> ChatRequest:
    """What is asked, in our own words; the first `num_earlier` of `items` were kept."""
    wants_logprobs = bool(wire.top_logprobs) or LOGPROBS in (wire.include or ())
    sampling = parameters.sampling(
        wire, max_tokens=wire.max_output_tokens, logprobs=(wire.top_logprobs or 0) if wants_logprobs else None
    )
    return msgspec.structs.replace(
        question(wire, read, items, num_earlier),
        sampling=msgspec.structs.replace(sampling, fills_context=True),
        adapters=parameters.adapters(wire),
    )


def question(wire: AskedWire, read: Parts, items: Sequence[Item], num_earlier: int) -> ChatRequest:
    """The conversation with its tools and form, sampled in no particular way."""
    return ChatRequest(
        model=wire.model,
        messages=messages(wire.instructions, items, num_earlier),
        tools=read.tools,
        tool_choice=read.choice,
        parallel_tool_calls=wire.parallel_tool_calls is not False,
        output=read.output,
        think=read.think,
    )


def echo(wire: ResponseWire, read: Parts, *, stores: bool) -> dict[str, Any]:
    """What a response repeats of its question; what was left open is null."""
    form = msgspec.to_builtins(read.text.format) if read.text.format else {"type": "text"}
    reasoning = read.reasoning
    return {
        "background": bool(wire.background),
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "metadata": wire.metadata or {},
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": wire.previous_response_id,
        "prompt_cache_key": wire.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary or reasoning.generate_summary},
        "safety_identifier": wire.safety_identifier,
        "service_tier": "default",
        "store": stores,
        "temperature": wire.temperature,
        "text": {
            "format": {name: value for name, value in form.items() if value is not None},
            "verbosity": read.text.verbosity or "medium",
        },
        "tool_choice": wire.tool_choice or "auto",
        "tools": read.shown_tools,
        "top_logprobs": wire.top_logprobs or 0,
        "top_p": wire.top_p,
        "presence_penalty": wire.presence_penalty,
        "frequency_penalty": wire.frequency_penalty,
        "truncation": "disabled",
        "user": wire.user,
    }


def _nested(value: dict[str, Any] | None, kind: type[Any], name: str, warnings: list[str]) -> Any:
    tables = {"reasoning": fields.REASONING, "text": fields.TEXT}
    check_fields(value or {}, tables[name], warnings, f"{name}.")
    return convert(value or {}, kind, name)


class _Offer(Struct, frozen=True):
    """One entry of `tools`: its functions, each with its place, and how a response repeats it, empty if left out."""

    functions: tuple[tuple[str, Function], ...] = ()
    shown: dict[str, Any] = {}


def _offer(tool: dict[str, Any], where: str, warnings: list[str]) -> _Offer:
    match tool:
        case {"type": "namespace"}:
            return _namespace(tool, where, warnings)
        case {"type": "web_search", "external_web_access": False}:
            warnings.append("tools of type web_search left out: no index is kept here")
            return _Offer()
        case {"type": "web_search"}:
            raise UnsupportedError(
                f"{where}: type web_search is not supported: nothing here goes out",
                hint="with external_web_access false it is left out; or give the model a function instead",
                param=f"{where}.type",
            )
        case _:
            function = _function(tool, where, warnings)
            return _Offer(((where, function),), _shown(function))


def _namespace(tool: dict[str, Any], where: str, warnings: list[str]) -> _Offer:
    check_fields(tool, fields.NAMESPACE, warnings, f"{where}.")
    wire = convert(tool, NamespaceWire, where)
    check_name(wire.name, where)
    functions: list[tuple[str, Function]] = []
    for index, inner in enumerate(wire.tools):
        place = f"{where}.tools[{index}]"
        if inner.get("type") != "function":
            raise UnsupportedError(f"{place}: only functions stand in a namespace here", param=f"{place}.type")
        functions.append((place, _function(inner, place, warnings)))
    told = [
        (place, Function(one.name, f"{wire.description}\n\n{one.description or ''}", one.parameters, one.strict))
        for place, one in functions
    ]
    shown = {"type": "namespace", "name": wire.name, "description": wire.description}
    return _Offer(tuple(told), {**shown, "tools": [_shown(one) for _, one in functions]})


def _shown(function: Function) -> dict[str, Any]:
    return {"type": "function", **msgspec.to_builtins(function), "strict": bool(function.strict)}


def _function(tool: dict[str, Any], where: str, warnings: list[str]) -> Function:
    if tool.get("type") == "function" and isinstance(tool.get("function"), dict):
        raise InputError(
            f"{where}: this is a tool as chat/completions has it",
            param=f"{where}.function",
            hint="name, description and parameters stand beside type here",
        )
    kind_of(tool, fields.TOOLS, where)
    check_fields(tool, fields.FUNCTION, warnings, f"{where}.")
    wire = convert(tool, FunctionWire, where)
    return Function(wire.name, wire.description, wire.parameters, wire.strict)


def _choice(wire: str | dict[str, Any] | None, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that may be called, and how."""
    match wire:
        case {"type": "function", "name": str(name), **rest} if not rest:
            return tools, named(name, tools)
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed), **rest} if not rest:
            names = {_allowed(tool, f"tool_choice.tools[{index}]") for index, tool in enumerate(allowed)}
            for name in names:
                named(name, tools)
            chosen = tuple(tool for tool in tools if tool.name in names)
            return chosen, choice_of(mode, chosen)
        case {"type": str(kind)} if kind not in ("function", "allowed_tools"):
            raise UnsupportedError(
                "tool_choice can name functions only", param="tool_choice.type", hint="see tools by type in the docs"
            )
        case dict():
            raise InputError(
                "tool_choice takes none, auto, required, one function, or allowed_tools with mode and tools",
                param="tool_choice",
            )
        case _:
            return tools, choice_of(wire, tools)


def _allowed(tool: Any, where: str) -> str:
    match tool:
        case {"type": "function", "name": str(name)}:
            return name
        case _:
            raise InputError(f"{where}: only functions by name", param=where)


def _output(form: FormatWire | None) -> OutputFormat:
    match form:
        case None | FormatWire(type="text"):
            return OutputFormat()
        case FormatWire(type="json_object"):
            return OutputFormat("json")
        case _:
            if not form.name:
                raise InputError("text.format.name is missing", param="text.format.name")
            if form.schema is None:
                raise InputError("text.format.schema is missing", param="text.format.schema")
            return schema_output(form.schema, "text.format.schema")
