"""Tools that stand in a namespace, as Codex sends them: what the model is shown, and what its calls come back as."""

from __future__ import annotations

from typing import Any

import pytest
from tests.reach.gateway.conftest import Door
from tests.reach.gateway.openai.conftest import ADD, ASK, PATH, response_of

from catena.core.messages import Finished, Message, Text, ToolCall, ToolCallDelta

pytestmark = pytest.mark.anyio
SUMS = {"type": "namespace", "name": "sums", "description": "For sums.", "tools": [ADD]}
PLAIN = {**ADD, "name": "sub"}


async def test_functions_of_a_namespace_are_shown_to_the_model_with_what_it_says_of_them(door: Door) -> None:
    answer = response_of((await door.post(PATH, {**ASK, "tools": [PLAIN, SUMS]})).json)
    asked: Any = door.script.asked[0]
    assert [(tool.name, tool.description) for tool in asked.tools] == [
        ("sub", "Add two numbers"),
        ("add", "For sums.\n\nAdd two numbers"),
    ]
    assert answer["tools"] == [{**PLAIN, "strict": False}, {**SUMS, "tools": [{**ADD, "strict": False}]}]


async def test_a_call_bears_the_namespace_of_its_function_and_can_be_sent_back(door: Door) -> None:
    door.script.events = [
        ToolCallDelta(0, 0, "{}", id="c1", name="add"),
        ToolCallDelta(0, 1, "{}", id="c2", name="sub"),
        Finished(0, "tool_calls"),
    ]
    ask = {**ASK, "tools": [PLAIN, SUMS]}
    output = response_of((await door.post(PATH, ask)).json)["output"]
    assert [(item["name"], item.get("namespace")) for item in output] == [("add", "sums"), ("sub", None)]
    results = [{"type": "function_call_output", "call_id": name, "output": "3"} for name in ("c1", "c2")]
    assert (await door.post(PATH, {**ask, "input": [*output, *results]})).status == 200
    assert door.script.asked[1].messages == (  # type: ignore[union-attr]
        Message("assistant", (), (ToolCall("c1", "add", "{}"), ToolCall("c2", "sub", "{}"))),
        Message("tool", (Text("3"),), tool_call_id="c1"),
        Message("tool", (Text("3"),), tool_call_id="c2"),
    )


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{**SUMS, "name": "a b"}], "tools[0].name"),
        ([{**SUMS, "tools": [{"type": "custom", "name": "x"}]}], "tools[0].tools[0].type"),
        ([{**SUMS, "tools": [{**ADD, "paramters": {}}]}], "tools[0].tools[0].paramters"),
        ([{**SUMS, "colour": "red"}], "tools[0].colour"),
        ([ADD, SUMS], "tools[1].tools[0].name"),
        ([{"type": "web_search", "external_web_access": True}], "tools[0].type"),
    ],
)
async def test_what_cannot_be_offered_is_refused_by_its_place(door: Door, tools: Any, param: str) -> None:
    reply = await door.post(PATH, {**ASK, "tools": tools})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert door.script.asked == []


async def test_a_search_that_must_not_go_out_is_left_out_with_a_warning(door: Door) -> None:
    tools = [{"type": "web_search", "external_web_access": False}, ADD]
    reply = await door.post(PATH, {**ASK, "tools": tools, "client_metadata": {"turn": "1"}})
    asked: Any = door.script.asked[0]
    assert [tool.name for tool in asked.tools] == ["add"]
    assert response_of(reply.json)["tools"] == [{**ADD, "strict": False}]
    assert "tools of type web_search left out" in reply.headers["catena-warning"]
    assert "client_metadata ignored" in reply.headers["catena-warning"]
