"""What the official Anthropic client must find at a running `catena up`: tools and thinking."""

from __future__ import annotations

from typing import Any

import anthropic
import anyio
import pytest
from tests.clients.anthropic.conftest import ADD, ASK, CALL, ONE, Played, said
from tests.clients.conftest import requirement

from catena.core.messages import Delta, Finished, ToolCallDelta, Usage

pytestmark = pytest.mark.model
TOOLS, THINKING, PINGS = "tools", "thinking", "signs of life"
SUB: Any = {**ADD, "name": "subtract", "description": "Subtract two numbers"}
THINK: Any = {**ASK, "model": "tiny", "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
REASONED = (
    Delta(reasoning="six "),
    Delta(reasoning="sevens"),
    Delta(text="42"),
    Finished(0, "stop"),
    Usage(5, 4, 0, 2),
)


def calls(answer: Any) -> list[anthropic.types.ToolUseBlock]:
    return [block for block in answer.content if block.type == "tool_use"]


@requirement("T01", TOOLS, "`tool_choice` any: a tool_use block whose input follows the schema, and reason `tool_use`")
def test_any(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**CALL)
    assert answer.stop_reason == "tool_use"
    for call in calls(answer):
        assert call.name == "add"
        assert set(call.input) == {"a", "b"}
        assert all(isinstance(value, int) for value in call.input.values())


@requirement("T02", TOOLS, "`tool_choice` tool: the call is of the tool with this name")
def test_named(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        **{**CALL, "tools": [ADD, SUB], "tool_choice": {**ONE, "type": "tool", "name": "subtract"}}
    )
    assert {call.name for call in calls(answer)} == {"subtract"}


@requirement("T03", TOOLS, "`tool_choice` none: no call")
def test_none(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**{**CALL, "tool_choice": {"type": "none"}})
    assert calls(answer) == []
    assert said(answer)


@requirement("T04", TOOLS, "`tool_choice` auto: text, or calls whose input follows the schema")
def test_auto(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**{**CALL, "tool_choice": {**ONE, "type": "auto"}})
    assert said(answer) or calls(answer)
    assert all(set(call.input) == {"a", "b"} for call in calls(answer))
    assert (answer.stop_reason == "tool_use") == bool(calls(answer)) or answer.stop_reason == "max_tokens"


@requirement("T05", TOOLS, "the input of a call streams as `input_json_delta` and adds up to the same")
def test_streamed(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**CALL) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    whole = client.messages.create(**CALL)
    assert "".join(pieces)
    assert [(call.name, call.input) for call in calls(final)] == [(call.name, call.input) for call in calls(whole)]
    assert final.stop_reason == whole.stop_reason == "tool_use"


@requirement("T06", TOOLS, "`disable_parallel_tool_use`: exactly one call")
def test_not_parallel(client: anthropic.Anthropic) -> None:
    turns = [{"role": "user", "content": "Add 1 and 3, then add 2 and 4, then add 2 and 3."}]
    answer = client.messages.create(**{**CALL, "messages": turns, "max_tokens": 200})
    assert (len(calls(answer)), answer.stop_reason) == (1, "tool_use")


@requirement("T07", TOOLS, "the result of a call goes back, and the conversation goes on")
def test_result(client: anthropic.Anthropic) -> None:
    asked = client.messages.create(**CALL)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "42"} for call in calls(asked)]
    turns = [*CALL["messages"], {"role": "assistant", "content": asked.content}, {"role": "user", "content": results}]
    answer = client.messages.create(**{**CALL, "messages": turns, "tool_choice": {"type": "none"}, "max_tokens": 6})
    assert said(answer)


@requirement("T08", TOOLS, "a result may be text blocks, may say `is_error`, and may be followed by text")
def test_result_blocks(client: anthropic.Anthropic) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}

    def tokens(**change: Any) -> int:
        result = {"type": "tool_result", "tool_use_id": "toolu_1", **change}
        content = [result, {"type": "text", "text": "Go on."}]
        turns: Any = [*ASK["messages"], {"role": "assistant", "content": [use]}, {"role": "user", "content": content}]
        answer = client.messages.create(**{**ASK, "messages": turns, "tools": [ADD], "max_tokens": 1})
        return answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)

    plain = tokens(content="no such file")
    assert tokens(content=[{"type": "text", "text": "no such file"}]) == plain
    assert tokens(content="no such file", is_error=True) > plain
    assert tokens() < plain


@requirement("T09", TOOLS, "`strict`, `eager_input_streaming` and `cache_control` of a tool are accepted")
def test_fields_of_tools(client: anthropic.Anthropic) -> None:
    tool = {**ADD, "type": "custom", "strict": True, "eager_input_streaming": True}
    raw = client.messages.with_raw_response.create(**{**CALL, "tools": [tool]})
    assert raw.parse().stop_reason == "tool_use"
    assert "catena-warning" not in raw.headers
    marked = {**ADD, "cache_control": {"type": "ephemeral"}}
    raw = client.messages.with_raw_response.create(**{**CALL, "tools": [marked]})
    assert "cache_control" in raw.headers["catena-warning"]


@requirement("T10", TOOLS, "a call that `max_tokens` cuts keeps what stands of its input, streamed or not")
def test_a_cut_call(client: anthropic.Anthropic) -> None:
    body = {**CALL, "max_tokens": 14}
    whole = client.messages.create(**body)
    with client.messages.stream(**body) as stream:
        final = stream.get_final_message()
    assert whole.stop_reason == final.stop_reason == "max_tokens"
    assert [call.input for call in calls(whole)] == [call.input for call in calls(final)]


@requirement("T11", TOOLS, "two calls that a model makes at once are two blocks, streamed one after the other")
def test_parallel(played: Played) -> None:
    played.script.events = [
        ToolCallDelta(0, 0, '{"a": 1}', id="call_1", name="add"),
        ToolCallDelta(0, 1, '{"a": 2}', id="call_2", name="add"),
        Finished(0, "tool_calls"),
        Usage(5, 9),
    ]
    with played.client() as client, client.messages.stream(**{**CALL, "model": "tiny"}) as stream:
        stops = [event.content_block.id for event in stream if event.type == "content_block_stop"]  # type: ignore[union-attr]
        final = stream.get_final_message()
    assert stops == ["call_1", "call_2"]
    assert [call.input for call in calls(final)] == [{"a": 1}, {"a": 2}]


@requirement("T12", TOOLS, "the client's own tool runner drives a conversation to its end")
def test_runner(played: Played) -> None:
    added: list[int] = []

    @anthropic.beta_tool
    def add(a: int, b: int) -> str:
        """Add two numbers.

        Args:
            a: One.
            b: The other.
        """
        added.append(a + b)
        return str(a + b)

    scripts = [
        [ToolCallDelta(0, 0, '{"a": 1, "b": 2}', id="call_1", name="add"), Finished(0, "tool_calls"), Usage(5, 9)],
        [Delta(text="3"), Finished(0, "stop"), Usage(9, 1)],
    ]
    real = played.script._play
    played.script._play = lambda receipt: (  # type: ignore[method-assign]
        setattr(played.script, "events", scripts.pop(0)),
        real(receipt),
    )[1]
    with played.client() as client:
        runner = client.beta.messages.tool_runner(
            model="tiny", max_tokens=50, tools=[add], messages=[{"role": "user", "content": "Add 1 and 2."}]
        )
        final = runner.until_done()
    assert added == [3]
    assert final.content[0].text == "3"  # type: ignore[union-attr]


@requirement("K01", THINKING, "`thinking` disabled and adaptive are accepted")
def test_accepted(client: anthropic.Anthropic) -> None:
    for wish in ({"type": "disabled"}, {"type": "adaptive"}):
        assert said(client.messages.create(**{**ASK, "max_tokens": 3}, thinking=wish))  # type: ignore[call-overload]


@requirement("K02", THINKING, "`thinking` enabled for a model that cannot is a BadRequestError that names it")
def test_not_able(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{**ASK, "max_tokens": 4000}, thinking={"type": "enabled", "budget_tokens": 2000})
    assert caught.value.body["error"]["details"]["param"] == "thinking"  # type: ignore[index]


@requirement("K03", THINKING, "reasoning is a thinking block with a signature before the text, and usage counts it")
def test_thinking_block(played: Played) -> None:
    played.script.events = REASONED
    with played.client() as client:
        answer = client.messages.create(**THINK)
    thinking, text = answer.content
    assert isinstance(thinking, anthropic.types.ThinkingBlock)
    assert (thinking.thinking, text.text) == ("six sevens", "42")  # type: ignore[union-attr]
    assert thinking.signature
    assert answer.usage.output_tokens_details is not None
    assert answer.usage.output_tokens_details.thinking_tokens == 2


@requirement("K04", THINKING, "reasoning streams as `thinking_delta` and ends with one `signature_delta`")
def test_thinking_stream(played: Played) -> None:
    played.script.events = REASONED
    with played.client() as client, client.messages.stream(**THINK) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.count("signature") == 1
    assert kinds.count("thinking") >= 1
    assert kinds.index("signature") < kinds.index("text")
    assert final.content[0].signature.startswith("ctn1.")  # type: ignore[union-attr]


@requirement("K05", THINKING, "a thinking block goes back as it came; a changed one is a BadRequestError")
def test_thinking_goes_back(played: Played) -> None:
    played.script.events = REASONED
    with played.client() as client:
        first = client.messages.create(**THINK)
        more = [*ASK["messages"], first.to_param(), {"role": "user", "content": "Why?"}]
        client.messages.create(**{**THINK, "messages": more})
        assert played.script.asked[-1].messages[1].reasoning == "six sevens"  # type: ignore[union-attr]
        first.content[0].thinking = "seven sixes"  # type: ignore[union-attr]
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**{**THINK, "messages": [*ASK["messages"], first.to_param(), more[-1]]})


@requirement("K06", THINKING, "a thinking block of another model is left out with a warning, so conversations may move")
def test_foreign_thinking(client: anthropic.Anthropic) -> None:
    foreign = {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"}
    content = [foreign, {"type": "text", "text": "Red."}]
    turns: Any = [*ASK["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": "And?"}]
    raw = client.messages.with_raw_response.create(**{**ASK, "messages": turns})
    assert "another model" in raw.headers["catena-warning"]


@requirement("K07", THINKING, "`display` omitted leaves an empty block with its signature")
def test_omitted(played: Played) -> None:
    played.script.events = REASONED
    with played.client() as client:
        answer = client.messages.create(**{**THINK, "thinking": {"type": "adaptive", "display": "omitted"}})
    assert (answer.content[0].thinking, bool(answer.content[0].signature)) == ("", True)  # type: ignore[union-attr]


@requirement("N01", PINGS, "a stream that waits sends pings, which the client passes over")
def test_pings(played: Played) -> None:
    async def wait() -> None:
        await anyio.sleep(1.3)

    played.script.events = [wait, Delta(text="late"), Finished(0, "stop"), Usage(1, 1)]
    with played.client() as client:
        raw = client.messages.with_raw_response.create(**{**ASK, "model": "tiny"}, stream=True)
        body = raw.http_response.read()
        assert body.count(b"event: ping\n") >= 2
        with client.messages.stream(**{**ASK, "model": "tiny"}) as stream:
            assert stream.get_final_text() == "late"
