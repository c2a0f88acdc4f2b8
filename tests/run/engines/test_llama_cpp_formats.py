"""Answers bound to a form: JSON schemas, GBNF grammars, and tool calls for a template that knows no tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.conformance.asking import chat, check_order, events_of, reasons_of, text_of
from tests.conformance.conftest import Loaded

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import CompletionRequest, Delta, Event, OutputFormat, Tool, ToolCallDelta, ToolChoice

pytestmark = pytest.mark.anyio
SHORT = {"type": "string", "minLength": 1, "maxLength": 12}
AGE = {"type": "integer", "minimum": 18, "maximum": 65}


def thing(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS: dict[str, tuple[dict[str, Any], Callable[[Any], bool]]] = {
    "bounded": (
        thing(name=SHORT, age=AGE),
        lambda found: 1 <= len(found["name"]) <= 12 and 18 <= found["age"] <= 65,
    ),
    "nested": (
        thing(person=thing(name=SHORT, home=thing(city=SHORT))),
        lambda found: list(found["person"]) == ["name", "home"] and list(found["person"]["home"]) == ["city"],
    ),
    "enum": (
        thing(colour={"enum": ["red", "green", None, 7]}, kind={"const": "paint"}),
        lambda found: found["colour"] in ("red", "green", None, 7) and found["kind"] == "paint",
    ),
    "array": (
        thing(numbers={"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "minItems": 2,
                       "maxItems": 4}),
        lambda found: 2 <= len(found["numbers"]) <= 4 and all(-5 <= number <= 5 for number in found["numbers"]),
    ),
    "choice": (
        thing(value={"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": 0, "maximum": 1}]}),
        lambda found: found["value"] is True or found["value"] is False or 0 <= found["value"] <= 1,
    ),
    "pattern": (
        thing(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
        lambda found: re.fullmatch("[A-Z]{2}-[0-9]{3}", found["code"]) is not None,
    ),
    "reference": (
        {**thing(first={"$ref": "#/$defs/word"}, second={"$ref": "#/$defs/word"}), "$defs": {"word": SHORT}},
        lambda found: all(1 <= len(found[key]) <= 12 for key in ("first", "second")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
async def test_an_answer_by_a_schema_is_always_valid(llama: Loaded, name: str) -> None:
    schema, is_valid = SCHEMAS[name]
    for seed in (1, 2):
        wish = chat(
            "Invent something.", output=OutputFormat("schema", schema), temperature=1.5, seed=seed, max_tokens=150
        )
        events = await events_of(llama, wish)
        found = json.loads(text_of(events))
        assert list(found) == list(schema["properties"]) and is_valid(found), found
        assert reasons_of(events) == {0: "stop"}


async def test_json_without_a_schema_is_an_object_and_works_for_completions(llama: Loaded) -> None:
    format_ = OutputFormat("schema", thing(word=SHORT))
    events = await events_of(llama, CompletionRequest("m", "A word:", output=format_))
    assert list(json.loads(text_of(events))) == ["word"]
    text = text_of(await events_of(llama, chat("Describe a cat.", output=OutputFormat("json"), max_tokens=12)))
    assert text.startswith("{")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "string", "pattern": "(?=a)b"},
        thing(a={"$ref": "https://example.org/schema"}),
        thing(a={"type": "integer", "minimum": 5, "maximum": 2}),
        thing(a={"type": "nonsense"}),
        thing(a=[]),
        {"not": {"type": "string"}},
        {"if": {}, "then": {}},
        {"type": "array", "uniqueItems": True},
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
async def test_a_schema_that_cannot_bind_is_refused_before_any_event(llama: Loaded, schema: dict[str, Any]) -> None:
    seen: list[Event] = []
    with pytest.raises(InputError):
        async for event in llama.session.generate(chat("Hi", output=OutputFormat("schema", schema))):
            seen.append(event)
    assert not seen
    assert text_of(await events_of(llama, chat("Hi")))


GRAMMARS = {
    "words": ('root ::= "yes" | "no"', "yes|no"),
    "date": ('root ::= year "-" two "-" two\nyear ::= [0-9]{4}\ntwo ::= [0-9] [0-9]', r"\d{4}-\d\d-\d\d"),
    "list": ('root ::= item ("," item)*  # with a comment\nitem ::= [a-c]+', "[a-c]+(,[a-c]+)*"),
}


@pytest.mark.parametrize("name", GRAMMARS)
async def test_an_answer_by_a_grammar_always_follows_it(llama: Loaded, name: str) -> None:
    grammar, pattern = GRAMMARS[name]
    for seed in (1, 2, 3):
        wish = chat(
            "Answer.", output=OutputFormat("grammar", grammar=grammar), temperature=1.5, seed=seed, max_tokens=30
        )
        events = await events_of(llama, wish)
        text = text_of(events)
        if reasons_of(events) == {0: "stop"}:
            assert re.fullmatch(pattern, text), text
        else:
            assert name == "list" and re.fullmatch("[a-c]+(,[a-c]+)*,?", text), text


@pytest.mark.parametrize(
    "grammar",
    ["", "root ::= (", 'root ::= "a', "root ::= missing", 'other ::= "a"', 'root ::= "a"\nroot ::= "b"', "root ::= *",
     "root ::= [z-a", "root ::= root"],
)  # fmt: skip
async def test_a_grammar_that_cannot_be_read_is_refused(llama: Loaded, grammar: str) -> None:
    with pytest.raises(InputError):
        await events_of(llama, chat("Hi", output=OutputFormat("grammar", grammar=grammar)))
    assert text_of(await events_of(llama, chat("Hi")))


WEATHER = Tool("get_weather", "The weather of a city.", thing(city=SHORT, unit={"enum": ["C", "F"]}))
TIME = Tool("get_time", "The time of day.", thing(hour={"type": "integer", "minimum": 0, "maximum": 23}))


def calls_of(events: list[Event]) -> list[tuple[str, Any]]:
    """Name and parsed arguments of each call, put together from its fragments."""
    found: dict[int, list[ToolCallDelta]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            found.setdefault(event.index, []).append(event)
    assert list(found) == list(range(len(found)))
    calls: list[tuple[str, Any]] = []
    for pieces in found.values():
        assert pieces[0].id and pieces[0].name
        assert all(piece.id is None and piece.name is None for piece in pieces[1:])
        calls.append((pieces[0].name, json.loads("".join(piece.arguments for piece in pieces))))
    return calls


async def call(loaded: Loaded, choice: ToolChoice, *tools: Tool, **fields: Any) -> list[Event]:
    fields = {"max_tokens": 120, "temperature": 1.0, "seed": 1, "parallel_tool_calls": False, **fields}
    events = await events_of(loaded, chat("What is it like in Rome?", tools=tools, tool_choice=choice, **fields))
    check_order(events, fields.get("num_choices", 1))
    return events


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_required_call_is_made_with_arguments_of_its_schema(llama: Loaded, seed: int) -> None:
    events = await call(llama, ToolChoice("required"), WEATHER, TIME, seed=seed)
    ((name, arguments),) = calls_of(events)
    if name == "get_weather":
        assert list(arguments) == ["city", "unit"] and arguments["unit"] in ("C", "F") and len(arguments["city"]) <= 12
    else:
        assert name == "get_time" and list(arguments) == ["hour"] and 0 <= arguments["hour"] <= 23
    assert reasons_of(events) == {0: "tool_calls"}
    assert not text_of(events)


async def test_the_named_tool_is_called_and_no_other(llama: Loaded) -> None:
    for tool in (WEATHER, TIME):
        events = await call(llama, ToolChoice("named", tool.name), WEATHER, TIME)
        assert [name for name, _ in calls_of(events)] == [tool.name]


async def test_arguments_arrive_in_fragments(llama: Loaded) -> None:
    events = await call(llama, ToolChoice("named", "get_weather"), WEATHER)
    assert len([event for event in events if isinstance(event, ToolCallDelta)]) > 3


async def test_each_choice_makes_its_own_call(llama: Loaded) -> None:
    events = await call(llama, ToolChoice("required"), TIME, num_choices=2)
    for choice in (0, 1):
        mine = [event for event in events if isinstance(event, ToolCallDelta) and event.choice == choice]
        assert 0 <= json.loads("".join(event.arguments for event in mine))["hour"] <= 23


async def test_several_calls_may_follow_one_another(llama: Loaded) -> None:
    events = await call(llama, ToolChoice("required"), TIME, parallel_tool_calls=True, max_tokens=250)
    assert 1 <= len(calls_of(events)) <= 8


async def test_tools_that_need_not_be_called_leave_text_with_its_log_probabilities(llama: Loaded) -> None:
    events = await call(llama, ToolChoice("auto"), WEATHER, logprobs=1, temperature=0.0, max_tokens=8)
    assert text_of(events) and not calls_of(events)
    texts = [event for event in events if isinstance(event, Delta)]
    assert sum(len(event.logprobs) for event in texts) == 8


async def test_hidden_tools_are_not_called(llama: Loaded) -> None:
    assert not calls_of(await call(llama, ToolChoice("none"), WEATHER, max_tokens=8))


async def test_a_strict_tool_whose_schema_cannot_be_enforced_is_refused(llama: Loaded) -> None:
    odd = thing(city={"not": {"const": "Rome"}})
    with pytest.raises(UnsupportedError, match="not"):
        await call(llama, ToolChoice("required"), Tool("odd", "", odd, strict=True))
    lax = await call(llama, ToolChoice("required"), Tool("odd", "", odd), max_tokens=25)
    assert any(isinstance(event, ToolCallDelta) and event.name == "odd" for event in lax)


async def test_a_format_that_cannot_be_enforced_only_describes_unless_the_tool_is_strict(llama: Loaded) -> None:
    page = thing(url={"type": "string", "format": "uri"})
    with pytest.raises(UnsupportedError, match="format"):
        await call(llama, ToolChoice("required"), Tool("fetch", "", page, strict=True))
    lax = await call(llama, ToolChoice("required"), Tool("fetch", "", page), max_tokens=25)
    arguments = "".join(event.arguments for event in lax if isinstance(event, ToolCallDelta))
    assert arguments.startswith('{"url":')  # the rest of the schema still binds


async def test_a_call_that_is_cut_by_the_limit_says_so(llama: Loaded) -> None:
    events = await call(llama, ToolChoice("named", "get_weather"), WEATHER, max_tokens=22)
    assert reasons_of(events) == {0: "length"}
