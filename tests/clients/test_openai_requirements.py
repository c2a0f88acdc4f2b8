"""What the official OpenAI client must find at a running `catena up` with the real model: chats."""

from __future__ import annotations

import json
import math
from typing import Any

import openai
import pydantic
import pytest
from tests.clients.conftest import Gateway, requirement

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
EMBEDDER = "bge-small-en-v1.5"
ASK: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Name the colours of a traffic light."}],
    "max_tokens": 12,
    "temperature": 0,
    "seed": 1,
}
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: Any = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
CHAT = "chat"


def text(stream: Any) -> str:
    """The whole text of a stream of chat chunks."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def content(client: openai.OpenAI, **change: Any) -> str:
    """The answer's text."""
    return client.chat.completions.create(**{**ASK, **change}).choices[0].message.content or ""


@requirement("C01", CHAT, "an answer at once has role, content, finish reason, id, model, creation time")
def test_an_answer_at_once(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASK)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.created > 1_700_000_000


@requirement("C02", CHAT, "the stream of the same question at temperature 0 says the same")
def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    assert text(client.chat.completions.create(**ASK, stream=True)) == content(client)


@requirement("C03", CHAT, "the first delta of a stream carries the role, the last the finish reason")
def test_a_stream_begins_with_the_role(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert len({chunk.id for chunk in chunks}) == 1


@requirement("C04", CHAT, "role `developer` is honoured as `system`")
def test_developer_is_system(client: openai.OpenAI) -> None:
    question = ASK["messages"][0]
    answers = [
        content(client, messages=[{"role": role, "content": "Answer in one word."}, question])
        for role in ("system", "developer")
    ]
    assert answers[0] == answers[1] != content(client)


@requirement("C05", CHAT, "content may be a list of text parts")
def test_content_parts(client: openai.OpenAI) -> None:
    whole = ASK["messages"][0]["content"]
    parts = [{"type": "text", "text": whole[:8]}, {"type": "text", "text": whole[8:]}]
    assert content(client, messages=[{"role": "user", "content": parts}]) == content(client)


@requirement("C06", CHAT, "a conversation goes on: an answer object is sent back as it came")
def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(**ASK).choices[0].message
    messages = [*ASK["messages"], first.model_dump(), {"role": "user", "content": "And a zebra's?"}]
    usage = client.chat.completions.create(**{**ASK, "messages": messages}).usage
    assert usage is not None
    assert usage.prompt_tokens > client.chat.completions.create(**ASK).usage.prompt_tokens  # type: ignore[union-attr]


@requirement("C07", CHAT, "`max_tokens` ends the answer with `length`")
def test_max_tokens(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**{**ASK, "max_tokens": 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@requirement("C08", CHAT, "`max_completion_tokens` means the same")
def test_max_completion_tokens(client: openai.OpenAI) -> None:
    body = {name: value for name, value in ASK.items() if name != "max_tokens"}
    answer = client.chat.completions.create(**body, max_completion_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@requirement("C09", CHAT, "`stop` as a string ends the answer before it")
def test_stop(client: openai.OpenAI) -> None:
    whole = content(client)
    word = whole.split()[2]
    answer = client.chat.completions.create(**{**ASK, "stop": word})
    assert answer.choices[0].message.content == whole[: whole.index(word)]
    assert answer.choices[0].finish_reason == "stop"


@requirement("C10", CHAT, "`stop` as a list ends the answer before whichever comes first, also in a stream")
def test_stop_list(client: openai.OpenAI) -> None:
    whole = content(client)
    words = whole.split()
    cut = text(client.chat.completions.create(**{**ASK, "stop": ["@@@", words[3], words[1]]}, stream=True))
    assert cut == whole[: min(whole.index(words[1]), whole.index(words[3]))]


@requirement("C11", CHAT, "temperature 0 gives the same answer again")
def test_temperature_zero(client: openai.OpenAI) -> None:
    assert content(client, seed=None) == content(client, seed=None)


@requirement("C12", CHAT, "the same `seed` gives the same answer at temperature 1")
def test_seed(client: openai.OpenAI) -> None:
    assert content(client, temperature=1, seed=7) == content(client, temperature=1, seed=7)


@requirement("C13", CHAT, "different seeds give different answers at temperature 1.5")
def test_seeds_differ(client: openai.OpenAI) -> None:
    assert len({content(client, temperature=1.5, seed=seed) for seed in range(3)}) > 1


@requirement("C14", CHAT, "`top_p` near 0 is greedy at any temperature")
def test_top_p(client: openai.OpenAI) -> None:
    assert content(client, temperature=1.5, top_p=0.001) == content(client)


@requirement("C15", CHAT, "`frequency_penalty` keeps a text from repeating itself")
def test_frequency_penalty(client: openai.OpenAI) -> None:
    ask = {"messages": [{"role": "user", "content": "Write: ha ha ha ha ha ha ha ha"}], "max_tokens": 24}
    plain, punished = content(client, **ask), content(client, **ask, frequency_penalty=2)
    assert len(set(punished.split())) / len(punished.split()) >= len(set(plain.split())) / len(plain.split())
    assert punished != plain


@requirement("C16", CHAT, "`presence_penalty` changes the choice of words")
def test_presence_penalty(client: openai.OpenAI) -> None:
    ask = {"messages": [{"role": "user", "content": "Write: ha ha ha ha ha ha ha ha"}], "max_tokens": 24}
    assert content(client, **ask) != content(client, **ask, presence_penalty=2)


@requirement("C17", CHAT, "`n` gives that many choices, numbered")
def test_n(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**{**ASK, "n": 3, "temperature": 1, "max_tokens": 4})
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


@requirement("C18", CHAT, "`n` in a stream: every choice has its role, its text and its finish reason")
def test_n_stream(client: openai.OpenAI) -> None:
    found: dict[int, list[Any]] = {}
    for chunk in client.chat.completions.create(**{**ASK, "n": 2, "max_tokens": 4}, stream=True):
        for choice in chunk.choices:
            found.setdefault(choice.index, []).append(choice)
    assert sorted(found) == [0, 1]
    for choices in found.values():
        assert choices[0].delta.role == "assistant"
        assert choices[-1].finish_reason == "length"


@requirement("C19", CHAT, "`logprobs` gives the log probability and the bytes of every token")
def test_logprobs(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**ASK, logprobs=True).choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content
    assert all(one.logprob <= 0 and math.isfinite(one.logprob) for one in choice.logprobs.content)
    joined = b"".join(bytes(one.bytes or []) for one in choice.logprobs.content)
    assert joined.decode().strip() == (choice.message.content or "").strip()


@requirement("C20", CHAT, "`top_logprobs` gives that many alternatives, best first; at temperature 0 the best one")
def test_top_logprobs(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=3).choices[0]
    assert choice.logprobs is not None
    for one in choice.logprobs.content or []:
        values = [other.logprob for other in one.top_logprobs]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert one.top_logprobs[0].token == one.token


@requirement("C21", CHAT, "`logprobs` come in a stream with their tokens")
def test_logprobs_stream(client: openai.OpenAI) -> None:
    tokens: list[str] = []
    for chunk in client.chat.completions.create(**ASK, logprobs=True, stream=True):
        if chunk.choices[0].logprobs:
            tokens += [one.token for one in chunk.choices[0].logprobs.content or []]
    assert "".join(tokens).strip() == content(client).strip()


@requirement("C22", CHAT, "`logit_bias` of 100 forces a token")
def test_logit_bias(client: openai.OpenAI) -> None:
    forced = content(client, logit_bias={"28": 100}, max_tokens=4)
    assert len(set(forced)) == 1
    assert forced != content(client, max_tokens=4)


@requirement("C23", CHAT, "usage counts prompt, completion and total tokens")
def test_usage(client: openai.OpenAI) -> None:
    usage = client.chat.completions.create(**ASK).usage
    assert usage is not None
    assert usage.prompt_tokens > 5
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@requirement("C24", CHAT, "`stream_options.include_usage` adds a last chunk with usage and no choices")
def test_usage_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == client.chat.completions.create(**ASK).usage or chunks[-1].usage.total_tokens > 0  # type: ignore[union-attr]
    assert all(chunk.usage is None for chunk in chunks[:-1])


@requirement("C25", CHAT, "without it, no chunk lacks choices and none has usage")
def test_no_usage_unasked(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@requirement("C26", CHAT, "`system_fingerprint` is the beginning of the manifest digest")
def test_fingerprint(client: openai.OpenAI) -> None:
    digest = client.models.retrieve(MODEL).model_extra["catena"]["digest"]  # type: ignore[index]
    answer = client.chat.completions.create(**ASK)
    assert (answer.system_fingerprint or "").removeprefix("fp_") == digest.removeprefix("sha256:")[:12]


@requirement("C27", CHAT, "every answer has a receipt in `catena-receipt`, whose record is closed as complete")
def test_receipt(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASK)
    usage = raw.parse().usage
    closed = gateway.record(raw.headers["catena-receipt"])
    assert closed["outcome"] == "complete"
    assert usage is not None
    assert closed["usage"]["completion_tokens"] == usage.completion_tokens


@requirement("C28", CHAT, "a stream has its receipt too, complete by the time `[DONE]` came")
def test_receipt_stream(client: openai.OpenAI, gateway: Gateway) -> None:
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert gateway.record(response.headers["catena-receipt"])["outcome"] == "complete"


@requirement("C29", CHAT, "every answer has an `x-request-id`, which the client shows")
def test_request_id(client: openai.OpenAI) -> None:
    assert str(client.chat.completions.create(**ASK)._request_id).startswith("req_")


@requirement("C30", CHAT, "`response_format` json_object gives a JSON object")
def test_json_object(client: openai.OpenAI) -> None:
    ask = {"messages": [{"role": "user", "content": "Give a JSON object with a colour."}], "max_tokens": 60}
    answer = client.chat.completions.create(**{**ASK, **ask}, response_format={"type": "json_object"})
    said = answer.choices[0].message.content or ""
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(said), dict)
    assert said.lstrip().startswith("{")


@requirement("C31", CHAT, "`response_format` json_schema gives JSON of that schema")
def test_json_schema(client: openai.OpenAI) -> None:
    said = content(
        client,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "light", "schema": SCHEMA, "strict": True}},
    )
    value = json.loads(said)
    assert value["colour"] in ("red", "green")
    assert isinstance(value["count"], int)


@requirement("C32", CHAT, "`chat.completions.parse` gives an object of a pydantic class")
def test_parse(client: openai.OpenAI) -> None:
    class Light(pydantic.BaseModel):
        is_on: bool

    parsed = client.chat.completions.parse(**{**ASK, "max_tokens": 30}, response_format=Light)
    assert isinstance(parsed.choices[0].message.parsed, Light)


@requirement("C33", CHAT, "the helper `chat.completions.stream` gathers the whole answer")
def test_stream_helper(client: openai.OpenAI) -> None:
    ask: Any = {**ASK, "stop": content(client).split()[2]}  # the helper raises for an answer that was cut by length
    with client.chat.completions.stream(**ask) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == content(client, stop=ask["stop"])


@requirement("C34", CHAT, "`tool_choice` required makes the model call a tool with arguments of its schema")
def test_tool_required(client: openai.OpenAI) -> None:
    ask = {**ASK, "messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 60}
    one = client.chat.completions.create(**ask, tools=[ADD], tool_choice="required", parallel_tool_calls=False)
    choice = one.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call: Any = choice.message.tool_calls[0]
    assert call.function.name == "add"
    assert set(json.loads(call.function.arguments)) == {"a", "b"}


@requirement("C35", CHAT, "`tool_choice` by name calls that tool")
def test_tool_named(client: openai.OpenAI) -> None:
    other = {"type": "function", "function": {"name": "subtract", "parameters": ADD["function"]["parameters"]}}
    ask: Any = {**ASK, "max_tokens": 60, "tools": [ADD, other]}
    named = {"type": "function", "function": {"name": "subtract"}}
    call: Any = client.chat.completions.create(**ask, tool_choice=named).choices[0].message.tool_calls[0]  # type: ignore[index]
    assert call.function.name == "subtract"
    assert call.id


@requirement("C36", CHAT, "a tool call in a stream: `index` on every delta, `id` and name on the first only")
def test_tool_stream(client: openai.OpenAI) -> None:
    ask: Any = {**ASK, "max_tokens": 60, "tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False}
    calls: list[Any] = []
    reason = None
    for chunk in client.chat.completions.create(**ask, stream=True):
        calls += chunk.choices[0].delta.tool_calls or []
        reason = chunk.choices[0].finish_reason or reason
    assert reason == "tool_calls"
    assert [call.index for call in calls] == [0] * len(calls)
    assert calls[0].id
    assert calls[0].function.name == "add"
    assert all(call.id is None and call.function.name is None for call in calls[1:])
    assert set(json.loads("".join(call.function.arguments or "" for call in calls))) == {"a", "b"}


@requirement("C37", CHAT, "`tool_choice` none calls nothing though tools are given")
def test_tool_none(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(**ASK, tools=[ADD], tool_choice="none").choices[0].message
    assert not message.tool_calls
    assert message.content


@requirement("C38", CHAT, "`tool_choice` auto answers in words or calls, and says which by its finish reason")
def test_tool_auto(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**{**ASK, "max_tokens": 40}, tools=[ADD]).choices[0]
    assert bool(choice.message.tool_calls) == (choice.finish_reason == "tool_calls")


@requirement("C39", CHAT, "a tool's result is sent back and the conversation goes on")
def test_tool_result(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":3}'}}
    messages: Any = [
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "5"},
    ]
    assert content(client, messages=messages, tools=[ADD], tool_choice="none")


@requirement("C40", CHAT, "`parallel_tool_calls` false gives one call at most")
def test_one_tool_call(client: openai.OpenAI) -> None:
    ask: Any = {**ASK, "max_tokens": 80, "tools": [ADD], "tool_choice": "required"}
    calls = client.chat.completions.create(**ask, parallel_tool_calls=False).choices[0].message.tool_calls
    assert len(calls or []) == 1


@requirement("C41", CHAT, "what is accepted but not honoured is named in `catena-warning`")
def test_warnings(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**{**ASK, "max_tokens": 1}, user="me", store=True)
    assert [part.split()[0] for part in raw.headers["catena-warning"].split("; ")] in (
        ["user", "store"],
        ["store", "user"],
    )
    plain = client.chat.completions.with_raw_response.create(**{**ASK, "max_tokens": 1}, store=False)
    assert "catena-warning" not in plain.headers


@requirement("C42", CHAT, "`reasoning_effort` none is honoured; a degree is refused by a model that cannot reason")
def test_reasoning_effort(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**{**ASK, "max_tokens": 1}, reasoning_effort="none")
    assert "catena-warning" not in raw.headers
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, reasoning_effort="low")
    assert (caught.value.code, caught.value.param) == ("unsupported", "reasoning_effort")


@requirement("C43", CHAT, "extensions: `top_k` 1 is greedy, `min_p` and `repeat_penalty` are taken")
def test_extensions(client: openai.OpenAI) -> None:
    greedy = content(client, temperature=1.5, extra_body={"top_k": 1})
    assert greedy == content(client)
    assert content(client, extra_body={"min_p": 0.1, "repeat_penalty": 1.1})


@requirement("C44", CHAT, "extension: `grammar` holds the answer to a GBNF grammar")
def test_grammar(client: openai.OpenAI) -> None:
    assert content(client, extra_body={"grammar": 'root ::= "yes" | "no"'}) in ("yes", "no")


@requirement("C45", CHAT, "text in any language comes through a stream unbroken")
def test_unicode(client: openai.OpenAI) -> None:
    said = text(
        client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": 'häuser 你好 👩‍👩‍👧 \u2028 \x00 "\\'}], stream=True
        )
    )
    assert said.endswith('häuser 你好 👩‍👩‍👧 \u2028 \x00 "\\')


@requirement("C46", CHAT, "a second question with the same beginning reuses the prompt that was read")
def test_cached_tokens(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Remember these words: " + "apple pear plum " * 20}]
    content(client, messages=messages, max_tokens=1)
    usage = client.chat.completions.create(**{**ASK, "messages": messages, "max_tokens": 1}).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens_details.cached_tokens or 0) > 0


@requirement("C47", CHAT, "`server-timing` tells where the time of an answer went")
def test_server_timing(client: openai.OpenAI) -> None:
    header = client.chat.completions.with_raw_response.create(**ASK).headers["server-timing"]
    parts = {part.split(";")[0]: float(part.split("=")[1]) for part in header.split(", ")}
    assert parts["decode"] > 0
    assert parts["prefill"] >= 0
    assert set(parts) == {"queue", "load", "prefill", "decode", "gateway"}


@requirement("C48", CHAT, "`response_format` json_schema in a stream gives JSON of that schema")
def test_json_schema_stream(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "light", "schema": SCHEMA, "strict": True}}
    said = text(client.chat.completions.create(**{**ASK, "max_tokens": 60}, response_format=form, stream=True))
    assert set(json.loads(said)) == {"colour", "count"}


@requirement("C49", CHAT, "with `n`, usage counts the tokens of every choice and the prompt once")
def test_usage_of_many(client: openai.OpenAI) -> None:
    one = client.chat.completions.create(**{**ASK, "max_tokens": 4}).usage
    many = client.chat.completions.create(**{**ASK, "max_tokens": 4, "n": 3}).usage
    assert one is not None
    assert many is not None
    assert many.completion_tokens == 3 * one.completion_tokens == 12
    assert many.prompt_tokens == one.prompt_tokens


@requirement("C50", CHAT, "calls that `max_tokens` cuts end with `length`, and every one that came is whole")
def test_tool_calls_cut(client: openai.OpenAI) -> None:
    ask: Any = {**ASK, "max_tokens": 70, "tools": [ADD], "tool_choice": "required", "parallel_tool_calls": True}
    choice = client.chat.completions.create(**ask).choices[0]
    assert choice.finish_reason in ("length", "tool_calls")
    for call in choice.message.tool_calls or []:
        assert set(json.loads(call.function.arguments)) == {"a", "b"}  # type: ignore[union-attr]


@requirement("C51", CHAT, "`seed` gives the same answer in a stream as at once, at temperature 1")
def test_seed_stream(client: openai.OpenAI) -> None:
    ask: Any = {**ASK, "temperature": 1, "seed": 11}
    assert text(client.chat.completions.create(**ask, stream=True)) == content(client, temperature=1, seed=11)


@requirement("C52", CHAT, "a stream read as raw lines holds nothing but events and comments")
def test_raw_lines(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith(("data: {", ":")) for line in lines[:-1])
    assert lines[-1] == "data: [DONE]"
