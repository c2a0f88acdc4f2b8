"""The parameters of a prompt and of its answer, as they come, and what they become inside."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import ChatRequest, OutputFormat, Sampling
from catena.reach.gateway.protocols.anthropic import fields, signing
from catena.reach.gateway.protocols.anthropic.conversation import Content, Reader
from catena.reach.gateway.protocols.anthropic.tools import ChoiceWire, choice, tools
from catena.reach.gateway.sampling import at_least_one, check_bounds, within
from catena.reach.gateway.schemas import schema_output
from catena.reach.gateway.wire import check_fields, convert

MAX_STOPS = 16
MIN_BUDGET = 1024


class ThinkingWire(Struct, frozen=True):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    display: Literal["summarized", "omitted"] | None = None
    budget_tokens: int | None = None


class FormatWire(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputWire(Struct, frozen=True):
    format: FormatWire | None = None


class PromptWire(Struct, frozen=True, kw_only=True):
    """The body that both routes take. What is not here is not honoured; `fields.PROMPT` says what becomes of it."""

    model: str
    messages: list[dict[str, Any]]
    system: Content | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ChoiceWire | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: FormatWire | None = None


class MessageWire(PromptWire, frozen=True, kw_only=True):
    """The body of a message; `fields.MESSAGE` says what becomes of the rest."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None


def to_request(wire: PromptWire, sampling: Sampling, salt: signing.Salt, warnings: list[str]) -> ChatRequest:
    """What is asked, in our own words. Raises InputError or UnsupportedError naming the parameter."""
    if not wire.model:
        raise InputError("model must name a model", param="model", hint="GET /v1/models lists them")
    offered = tools(wire.tools or (), warnings)
    chosen, is_parallel = choice(wire.tool_choice, offered)
    output = _output(wire, warnings)
    if offered and chosen.mode != "none" and output.kind != "text":
        raise UnsupportedError("tools and an output format exclude one another here", param="output_config.format")
    think = thinking(wire)
    if think is not None and think.type == "between_tools":
        raise UnsupportedError("thinking of type between_tools is not supported", param="thinking.type")
    if think is not None:
        check_fields(wire.thinking or {}, fields.THINKING, warnings, "thinking.")
    return ChatRequest(
        model=wire.model,
        messages=Reader(salt, warnings).messages(wire.system, wire.messages),
        sampling=sampling,
        tools=offered,
        tool_choice=chosen,
        parallel_tool_calls=is_parallel,
        output=output,
        think={"enabled": True, "disabled": False}.get(think.type) if think else None,
    )


def thinking(wire: PromptWire) -> ThinkingWire | None:
    """What is wished of the model's reasoning. Raises InputError."""
    if wire.thinking is None:
        return None
    found = convert(wire.thinking, ThinkingWire, "thinking")
    if found.type == "enabled" and (found.budget_tokens is None or found.budget_tokens < MIN_BUDGET):
        raise InputError(f"budget_tokens must be at least {MIN_BUDGET}", param="thinking.budget_tokens")
    return found


def sampling(wire: MessageWire) -> Sampling:
    """How to sample. Raises InputError naming what is out of its bounds."""
    at_least_one("max_tokens", wire.max_tokens)
    within("temperature", wire.temperature, 0, 1)
    check_bounds(wire)
    stops = wire.stop_sequences or []
    if len(stops) > MAX_STOPS:
        raise InputError(f"at most {MAX_STOPS} stop sequences", param="stop_sequences")
    if any(not stop.strip() for stop in stops):
        raise InputError("a stop sequence must hold more than white space", param="stop_sequences")
    return Sampling(
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        stop=tuple(stops),
        fills_context=True,
    )


def _output(wire: PromptWire, warnings: list[str]) -> OutputFormat:
    wished = wire.output_format
    if wire.output_config is not None:
        check_fields(wire.output_config, fields.OUTPUT, warnings, "output_config.")
        newer = convert(wire.output_config, OutputWire, "output_config").format
        if wished is not None and newer is not None and wished != newer:
            raise InputError("output_format and output_config.format differ", param="output_format")
        wished = newer or wished
    return OutputFormat() if wished is None else schema_output(wished.schema, "output_config.format.schema")
