"""Grammars that bind an answer: from JSON schemas and tools, in the dialect that the library's guidance reads.

The library drops a schema keyword that it does not know, and a guidance grammar that it cannot read, without a word;
the answer is then free text. So keywords are checked here against those it enforces (measured, see
docs/decisions/0005-engines.md), and every new grammar is tried out before use: see `trial`.
"""

from __future__ import annotations

import json
from typing import Any

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import OutputFormat, Tool
from catena.run.engines.llama_cpp import gbnf

# What a trial must answer with; no model says so of its own accord.
WITNESS = "~catena~witness~"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 8

_HEAD = "%llguidance {}\n"
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_SCHEMAS = frozenset({"items", "additionalProperties"})
_ENFORCED = frozenset(
    {"type", "enum", "const", "required", "minProperties", "maxProperties", "minItems", "maxItems", "minLength"}
    | {"maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"$ref"}
)
# The values of `format` that a grammar can be made of; with any other the library cannot read the schema.
_FORMATS = ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid")
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment"}
)


def check_schema(schema: Any, param: str, place: str = "#") -> None:
    """Raise UnsupportedError at the first keyword of a JSON schema that generation would not be held to."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise InputError(f"the JSON schema at {place} is not an object", param=param)
    for keyword, value in schema.items():
        here = f"{place}/{keyword}"
        if keyword in _SCHEMA_LISTS and isinstance(value, list):
            for index, inner in enumerate(value):
                check_schema(inner, param, f"{here}/{index}")
        elif keyword in _SCHEMA_MAPS and isinstance(value, dict):
            for name, inner in value.items():
                check_schema(inner, param, f"{here}/{name}")
        elif keyword in _SCHEMAS:
            check_schema(value, param, here)
        elif keyword == "format" and value not in _FORMATS:
            raise UnsupportedError(
                f"a format in the JSON schema at {place} cannot be enforced",
                hint=f"remove it or say it in the prompt; enforced are: {', '.join(_FORMATS)}",
                param=param,
            )
        elif keyword not in _ENFORCED and keyword not in _ANNOTATIONS:
            raise UnsupportedError(
                f"the JSON schema keyword {keyword!r} cannot be enforced",
                hint=f"remove it or say it in the prompt; enforced are: {', '.join(sorted(_all_enforced()))}",
                param=param,
            )


def of_output(output: OutputFormat) -> str | None:
    """The grammar that holds an answer to `output`, None for free text."""
    match output.kind:
        case "text":
            return None
        case "json":
            return _guided(_json({"type": "object"}))
        case "schema":
            schema = output.schema if output.schema is not None else {}
            check_schema(schema, "response_format")
            return _guided(_json(schema))
        case "grammar":
            gbnf.check(output.grammar or "")
            return output.grammar


def of_tools(tools: tuple[Tool, ...], *, must_call: bool, parallel: bool, output: OutputFormat) -> str:
    """The grammar of an answer that calls `tools`, or, unless `must_call`, may be `output` instead."""
    if output.kind == "grammar":
        raise UnsupportedError("tools and a grammar cannot be combined", param="tools")
    rules = [f"call_{index}: {json.dumps(opening(tool))} {_parameters(tool)} {json.dumps(closing())}\n"
             for index, tool in enumerate(tools)]  # fmt: skip
    rules.append(f"call: {' | '.join(f'call_{index}' for index in range(len(tools)))}\n")
    calls = f"call{{1,{MAX_CALLS}}}" if parallel else "call"
    if must_call:
        return _guided(calls, *rules)
    if output.kind == "text":
        rules.append(f"PLAIN: /(?s:.*)/ & ~/(?s:{CALL_OPEN}.*)/\n")
        return _guided(f"PLAIN | {calls}", *rules)
    schema: dict[str, Any] = {"type": "object"} if output.kind == "json" else output.schema or {}
    check_schema(schema, "response_format")
    return _guided(f"{_json(schema)} | {calls}", *rules)


def opening(tool: Tool) -> str:
    """The text that begins a call of `tool`; its arguments, a JSON object, follow."""
    return f'{CALL_OPEN}{{"name": {json.dumps(tool.name)}, "arguments": '


def closing() -> str:
    """The text that ends a call."""
    return "}" + CALL_CLOSE


def trial(grammar: str) -> str | None:
    """A grammar that makes WITNESS come first if `grammar` can be read; None for GBNF, where the library speaks up."""
    if not grammar.startswith(_HEAD):
        return None
    return grammar.replace("start: answer", f"start: {json.dumps(WITNESS)} answer", 1)


def _guided(answer: str, *rules: str) -> str:
    return f"{_HEAD}start: answer\nanswer: {answer}\n{''.join(rules)}"


def _json(schema: dict[str, Any]) -> str:
    # No free white space: a small model would fill the context with it.
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})


def _parameters(tool: Tool) -> str:
    if not tool.parameters:
        return _json({"type": "object", "properties": {}, "additionalProperties": False})
    schema = tool.parameters if tool.strict else _without_formats(tool.parameters)
    try:
        check_schema(schema, "tools")
    except UnsupportedError:
        if tool.strict:
            raise
        return _json({"type": "object"})
    return _json({"type": "object", **schema})


def _without_formats(schema: Any) -> Any:
    """`schema` without formats that cannot be enforced: by itself the keyword only describes.

    Source: JSON Schema 2020-12, Validation, 7.2.1. Properties of that name stay.
    """
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _SCHEMA_LISTS and isinstance(value, list):
            found[keyword] = [_without_formats(inner) for inner in value]
        elif keyword in _SCHEMA_MAPS and isinstance(value, dict):
            found[keyword] = {name: _without_formats(inner) for name, inner in value.items()}
        elif keyword in _SCHEMAS:
            found[keyword] = _without_formats(value)
        elif keyword != "format" or value in _FORMATS:
            found[keyword] = value
    return found


def _all_enforced() -> frozenset[str]:
    return _ENFORCED | _SCHEMAS | _SCHEMA_LISTS | _SCHEMA_MAPS
