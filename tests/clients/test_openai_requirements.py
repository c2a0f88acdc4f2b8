"""What the official OpenAI client must find at a running `catena up` with the real model: answers."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import httpx2
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
CHAT, COMPLETION, EMBEDDING, MODELS = "chat", "completions", "embeddings", "models"


def text(stream: Any) -> str:
    """The whole text of a stream of chat chunks."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def content(client: openai.OpenAI, **change: Any) -> str:
    """The answer's text."""
    return client.chat.completions.create(**{**ASK, **change}).choices[0].message.content or ""


@requirement("M01", MODELS, "`models.list` names the stored models")
def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {MODEL, EMBEDDER} <= {model.id for model in client.models.list()}


@requirement("M02", MODELS, "`models.retrieve` shows one model by name")
def test_a_model_is_shown(client: openai.OpenAI) -> None:
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "catena")
    assert model.created > 0


@requirement("M03", MODELS, "a model answers to its alias and to its manifest digest, and the answer says its name")
def test_a_model_answers_to_alias_and_digest(client: openai.OpenAI) -> None:
    digest = client.models.retrieve(MODEL).model_extra["catena"]["digest"]  # type: ignore[index]
    for name in ("default", digest):
        answer = client.chat.completions.create(**{**ASK, "model": name, "max_tokens": 1})
        assert answer.model == MODEL


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
    with client.chat.completions.stream(**ASK) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == content(client)


@requirement("C34", CHAT, "`tool_choice` required makes the model call a tool with arguments of its schema")
def test_tool_required(client: openai.OpenAI) -> None:
    ask = {**ASK, "messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 60}
    choice = client.chat.completions.create(**ask, tools=[ADD], tool_choice="required").choices[0]
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
    ask: Any = {**ASK, "max_tokens": 60, "tools": [ADD], "tool_choice": "required"}
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


@requirement("C42", CHAT, "`reasoning_effort` none is honoured, a degree is accepted with a warning")
def test_reasoning_effort(client: openai.OpenAI) -> None:
    for effort, warns in (("none", False), ("low", True)):
        raw = client.chat.completions.with_raw_response.create(
            **{**ASK, "max_tokens": 1},
            reasoning_effort=effort,  # type: ignore[arg-type]
        )
        assert ("catena-warning" in raw.headers) == warns


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


@requirement("T01", COMPLETION, "a completion at once continues the prompt")
def test_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=4, temperature=0)
    assert answer.object == "text_completion"
    assert "four" in answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"


@requirement("T02", COMPLETION, "its stream says the same")
def test_completion_stream(client: openai.OpenAI) -> None:
    ask: Any = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": 6, "temperature": 0}
    chunks = list(client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    said = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert said == client.completions.create(**ask).choices[0].text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


@requirement("T03", COMPLETION, "`echo` repeats the prompt before the answer")
def test_completion_echo(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two,", max_tokens=3, temperature=0, echo=True)
    assert answer.choices[0].text.startswith("One, two,")
    assert len(answer.choices[0].text) > len("One, two,")


@requirement("T04", COMPLETION, "a prompt may be token ids")
def test_completion_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=[504, 1208], max_tokens=2, temperature=0)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens in (2, 3)


@requirement("T05", COMPLETION, "`logprobs` in the older form: tokens, values, alternatives, offsets")
def test_completion_logprobs(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4, temperature=0, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == answer.choices[0].text
    assert all(len(top) == 2 for top in logprobs.top_logprobs or [])
    assert logprobs.text_offset == sorted(logprobs.text_offset or [])


@requirement("T06", COMPLETION, "`n`, `stop` and `seed` work as in chat")
def test_completion_sampling(client: openai.OpenAI) -> None:
    ask: Any = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**ask).choices[0].text
    word = whole.split()[1]
    assert client.completions.create(**ask, stop=[word]).choices[0].text == whole[: whole.index(word)]
    assert len(client.completions.create(**ask, n=2, seed=3).choices) == 2


@requirement("T07", COMPLETION, "without `max_tokens` 16 are made, as in the original")
def test_completion_default(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two, three, four, five,", temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 16


def vector(client: openai.OpenAI, words: str) -> list[float]:
    """One embedding."""
    return client.embeddings.create(model=EMBEDDER, input=words).data[0].embedding


@requirement("E01", EMBEDDING, "the client's default (base64) gives 384 numbers")
def test_embedding(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=EMBEDDER, input="a cat")
    assert len(answer.data[0].embedding) == 384
    assert answer.model == EMBEDDER


@requirement("E02", EMBEDDING, "`encoding_format` float and base64 give the same numbers, to the last bit")
def test_embedding_formats(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model=EMBEDDER, input="a cat", encoding_format="float").data[0].embedding
    raw = client.embeddings.with_raw_response.create(model=EMBEDDER, input="a cat", encoding_format="base64")
    coded = json.loads(raw.content)["data"][0]["embedding"]
    assert list(struct.unpack("<384f", base64.b64decode(coded))) == pytest.approx(floats, abs=0)


@requirement("E03", EMBEDDING, "a list of texts comes back in its order")
def test_embedding_list(client: openai.OpenAI) -> None:
    words = ["a cat", "a rocket engine", "a dog"]
    answer = client.embeddings.create(model=EMBEDDER, input=words)
    assert [one.index for one in answer.data] == [0, 1, 2]
    for word, one in zip(words, answer.data, strict=True):
        assert one.embedding == pytest.approx(vector(client, word), abs=1e-3)


@requirement("E04", EMBEDDING, "vectors have length 1, and what means the same lies nearer")
def test_embedding_meaning(client: openai.OpenAI) -> None:
    cat, kitten, engine = (vector(client, words) for words in ("a cat", "a kitten", "a rocket engine"))
    assert math.sqrt(sum(x * x for x in cat)) == pytest.approx(1, abs=1e-3)
    assert sum(a * b for a, b in zip(cat, kitten, strict=True)) > sum(a * b for a, b in zip(cat, engine, strict=True))


@requirement("E05", EMBEDDING, "usage counts the tokens of the input")
def test_embedding_usage(client: openai.OpenAI) -> None:
    short = client.embeddings.create(model=EMBEDDER, input="a cat").usage
    long = client.embeddings.create(model=EMBEDDER, input="a cat on a mat in a flat").usage
    assert long.prompt_tokens > short.prompt_tokens >= 2
    assert short.total_tokens == short.prompt_tokens


@requirement("E06", EMBEDDING, "`dimensions` is honoured at the model's own width and refused at any other")
def test_embedding_dimensions(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=EMBEDDER, input="a", dimensions=384).data[0].embedding) == 384
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=EMBEDDER, input="a", dimensions=100)
    assert caught.value.param == "dimensions"


@requirement("E07", EMBEDDING, "an input may be token ids")
def test_embedding_tokens(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=EMBEDDER, input=[101, 1037, 4937, 102]).data[0].embedding) == 384


@requirement("E08", EMBEDDING, "an embedding has a receipt")
def test_embedding_receipt(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.embeddings.with_raw_response.create(model=EMBEDDER, input="a cat")
    assert gateway.record(raw.headers["catena-receipt"])["outcome"] == "complete"


@requirement("G01", "service", "`/healthz`, `/readyz` and `/metrics` answer")
def test_service_routes(gateway: Gateway) -> None:
    assert gateway.get("/readyz") == {"status": "ready"}
    assert gateway.get("/healthz") == {"status": "ok"}
    assert "catena_reach_requests_total" in httpx2.get(f"{gateway.url}/metrics").text
