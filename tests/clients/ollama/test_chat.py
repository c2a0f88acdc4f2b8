"""What the official Ollama client must find at a running `catena up` with the real model: chats, tools, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import ollama
import pytest
from tests.clients.conftest import Gateway, requirement
from tests.clients.ollama.conftest import (
    ADD,
    ASK,
    ECHO,
    EMBEDDER,
    EXACT,
    LIMIT_S,
    MODEL,
    SCHEMA,
    new_client,
    post,
    until,
)

pytestmark = pytest.mark.model
CHAT, TOOLS, ERRORS = "POST /api/chat", "tools", "errors"


def text(client: ollama.Client, **change: Any) -> str:
    """The answer's text."""
    return client.chat(**{**ASK, **change}).message.content or ""


@requirement("C01", CHAT, "an answer at once has role, content, `done`, `done_reason`, model and time")
def test_an_answer_at_once(client: ollama.Client) -> None:
    answer = client.chat(**ASK)
    assert answer.message.role == "assistant"
    assert "light" in (answer.message.content or "")
    assert (answer.done, answer.done_reason, answer.model) == (True, "length", MODEL)
    assert datetime.fromisoformat(answer.created_at or "").year > 2000


@requirement("C02", CHAT, "the stream of the same question at temperature 0 says the same")
def test_a_stream_says_the_same(client: ollama.Client) -> None:
    assert "".join(part.message.content or "" for part in client.chat(**ASK, stream=True)) == text(client)


@requirement("C03", CHAT, "only the last line of a stream is `done`; it has no text, and counts and times")
def test_the_last_line(client: ollama.Client) -> None:
    *parts, last = list(client.chat(**ASK, stream=True))
    assert {part.done for part in parts} == {False}
    assert (last.done, last.message.content, last.done_reason) == (True, "", "length")
    assert last.eval_count == 12


@requirement("C04", CHAT, "`prompt_eval_count` and `eval_count` are tokens; times are nanoseconds within the total")
def test_counts_and_times(client: ollama.Client) -> None:
    answer = client.chat(**ASK)
    assert answer.eval_count == 12
    assert 20 < (answer.prompt_eval_count or 0) < 60
    parts = [answer.load_duration, answer.prompt_eval_duration, answer.eval_duration]
    assert all(part is not None and part >= 0 for part in parts)
    assert answer.eval_duration and answer.eval_duration > 1_000_000
    assert sum(part or 0 for part in parts) <= (answer.total_duration or 0)


@requirement("C05", CHAT, "a stream without `stream` in the body is lines of JSON, as in the original")
def test_lines_are_the_default(gateway: Gateway) -> None:
    response = post(gateway, "chat", ASK)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert json.loads(response.text.splitlines()[-1])["done"] is True


@requirement("C06", CHAT, "a name with the tag `latest` means the same model, and is what the answer says")
def test_the_tag_latest(client: ollama.Client) -> None:
    answer = client.chat(**{**ASK, "model": f"{MODEL}:latest"})
    assert answer.model == f"{MODEL}:latest"
    assert answer.message.content == text(client)


@requirement("C07", CHAT, "a model answers to the alias `default` and to its digest")
def test_alias_and_digest(client: ollama.Client) -> None:
    digest = next(one.digest for one in client.list().models if one.model == f"{MODEL}:latest")
    assert text(client, model="default") == text(client, model=f"sha256:{digest}") == text(client)


@requirement("C08", CHAT, "a conversation goes on: an answer's message is sent back as it came")
def test_a_conversation_goes_on(client: ollama.Client) -> None:
    first = client.chat(**ASK)
    messages = [*ASK["messages"], first.message, {"role": "user", "content": "And of a zebra?"}]
    second = client.chat(**{**ASK, "messages": messages})
    assert (second.prompt_eval_count or 0) > (first.prompt_eval_count or 0) + 12


@requirement("C09", CHAT, "a system message is honoured")
def test_a_system_message(client: ollama.Client) -> None:
    messages = [{"role": "system", "content": "Answer in one word."}, *ASK["messages"]]
    assert text(client, messages=messages) != text(client)


@requirement("C10", "options", "`num_predict` ends the answer with `length`")
def test_num_predict(client: ollama.Client) -> None:
    answer = client.chat(**{**ASK, "options": {**EXACT, "num_predict": 3}})
    assert (answer.done_reason, answer.eval_count) == ("length", 3)


@requirement(
    "C26", "options", "a `num_predict` beyond the context is no error: the answer may end where the context does"
)
def test_num_predict_beyond_the_context(client: ollama.Client) -> None:
    answer = client.chat(**{**ASK, "options": {**EXACT, "num_predict": 100_000, "stop": ["light"]}})
    assert answer.done_reason == "stop"


@requirement("C11", "options", "`seed` with a temperature makes an answer repeatable, another seed another one")
def test_seed(client: ollama.Client) -> None:
    options = {"temperature": 1.5, "seed": 7, "num_predict": 12}
    first, again, other = (text(client, options={**options, "seed": seed}) for seed in (7, 7, 8))
    assert first == again != other


@requirement("C12", "options", "`stop` ends the answer before its text, with `stop`")
def test_stop(client: ollama.Client) -> None:
    whole = text(client)
    word = whole.split()[2]
    answer = client.chat(**{**ASK, "options": {**EXACT, "stop": [word]}})
    assert (answer.message.content, answer.done_reason) == (whole[: whole.index(word)], "stop")


@requirement("C13", "options", "`top_k` 1 and a tiny `top_p` are greedy at any temperature")
def test_top_k_and_top_p(client: ollama.Client) -> None:
    hot = {"temperature": 2, "num_predict": 12}
    assert text(client, options={**hot, "top_k": 1}) == text(client, options={**hot, "top_p": 1e-6}) == text(client)


@requirement("C14", "options", "penalties change an answer")
def test_penalties(client: ollama.Client) -> None:
    many = {**EXACT, "num_predict": 60}
    plain = text(client, options=many)
    for name, value in (("repeat_penalty", 1.5), ("presence_penalty", 2), ("frequency_penalty", 2)):
        assert text(client, options={**many, name: value}) != plain, name


@requirement("C15", "options", "an `Options` object with all its fields empty or default is accepted without a warning")
def test_an_options_object(client: ollama.Client, gateway: Gateway) -> None:
    options = ollama.Options(num_predict=3, temperature=0.0, mirostat=0, use_mmap=True)
    assert client.chat(**{**ASK, "options": options}).eval_count == 3
    response = post(gateway, "chat", {**ASK, "options": options.model_dump(), "stream": False})
    assert response.status_code == 200
    assert "catena-warning" not in response.headers


@requirement("C16", "options", "`num_ctx` is named in `catena-warning` unless it is what the model has here")
def test_num_ctx(gateway: Gateway) -> None:
    for num_ctx, is_warned in ((2048, True), (8192, False)):
        response = post(gateway, "chat", {**ASK, "options": {**EXACT, "num_ctx": num_ctx}, "stream": False})
        assert ("num_ctx ignored" in response.headers.get("catena-warning", "")) is is_warned


@requirement("C17", CHAT, "`format` json gives a JSON object")
def test_format_json(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "Give me a colour as JSON."}]
    said = text(client, messages=messages, format="json", options={**EXACT, "num_predict": 80})
    assert isinstance(json.loads(said), dict)


@requirement("C18", CHAT, "`format` with a schema gives JSON that follows it, streamed or not")
def test_format_schema(client: ollama.Client) -> None:
    ask: Any = {**ASK, "format": SCHEMA, "options": {**EXACT, "num_predict": 60}}
    at_once = json.loads(client.chat(**ask).message.content or "")
    assert at_once["colour"] in ("red", "green")
    assert isinstance(at_once["count"], int)
    assert json.loads("".join(part.message.content or "" for part in client.chat(**ask, stream=True))) == at_once


@requirement("C19", CHAT, "`logprobs` come token by token with `top_logprobs` alternatives, streamed or not")
def test_logprobs(client: ollama.Client) -> None:
    ask: Any = {**ASK, "logprobs": True, "top_logprobs": 2}
    answer = client.chat(**ask)
    assert answer.logprobs is not None
    assert "".join(one.token for one in answer.logprobs) == answer.message.content
    assert all(one.logprob <= 0 and len(one.top_logprobs or []) == 2 for one in answer.logprobs)
    streamed = [one.token for part in client.chat(**ask, stream=True) for one in part.logprobs or []]
    assert streamed == [one.token for one in answer.logprobs]


@requirement("C20", CHAT, "`think` false is honoured; true is refused by a model that cannot, naming it")
def test_think(client: ollama.Client) -> None:
    assert text(client, think=False) == text(client)
    with pytest.raises(ollama.ResponseError, match="reasoning") as caught:
        client.chat(**ASK, think=True)
    assert caught.value.status_code == 400


@requirement("C21", CHAT, "pictures are refused by a model that does not see, with a reason")
def test_pictures(client: ollama.Client) -> None:
    message = {"role": "user", "content": "What is this?", "images": [b"\x89PNG\r\n\x1a\n0000"]}
    with pytest.raises(ollama.ResponseError, match="text only") as caught:
        client.chat(MODEL, [message])
    assert caught.value.status_code == 400


@requirement("C22", CHAT, "every answer carries `catena-receipt`, whose record is closed when the answer ends")
def test_a_receipt(gateway: Gateway) -> None:
    for stream in (True, False):
        response = post(gateway, "chat", {**ASK, "stream": stream})
        record = gateway.record(response.headers["catena-receipt"])
        assert (record["outcome"], record["usage"]["completion_tokens"]) == ("complete", 12)


@requirement("C23", CHAT, "a client that leaves a stream stops the work, and the record says cancelled")
def test_leaving(gateway: Gateway) -> None:
    body = {**ASK, "options": {**EXACT, "num_predict": 4000}}
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, timeout=LIMIT_S) as response:
        receipt = response.headers["catena-receipt"]
        next(response.iter_lines())
    until(lambda: gateway.record(receipt))
    assert gateway.record(receipt)["outcome"] == "cancelled"


@requirement("C24", CHAT, "the asynchronous client streams the same")
def test_the_asynchronous_client(client: ollama.Client, gateway: Gateway) -> None:
    async def collect() -> str:
        async with ollama.AsyncClient(host=gateway.url, timeout=LIMIT_S) as other:
            return "".join([part.message.content or "" async for part in await other.chat(**ASK, stream=True)])

    assert asyncio.run(collect()) == text(client)


@requirement("C25", CHAT, "several conversations at once keep apart")
def test_several_at_once(gateway: Gateway) -> None:
    words = [f"word{number}" for number in range(8)]

    async def ask() -> list[str]:
        async with ollama.AsyncClient(host=gateway.url, timeout=LIMIT_S) as client:
            asked = [client.chat(ECHO, [{"role": "user", "content": word}]) for word in words]
            return [answer.message.content or "" for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == words


CALLING = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
CALLS = "".join(
    f'Q: add {a} and {b}\nA:\n<tool_call>{{"name": "add", "arguments": {{"a": {a}, "b": {b}}}}}</tool_call>\n'
    for a, b in ((1, 2), (5, 2), (8, 9))
)


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
      a: the first number
      b: the second number
    """
    return a + b


@pytest.fixture(scope="module")
def caller(client: ollama.Client) -> Iterator[str]:
    """A model whose template passes the prompt on as it is, so that even a small model can be led to a call."""
    client.create("caller", from_=MODEL, template=CALLING)
    yield "caller"
    client.delete("caller")


@requirement("T01", TOOLS, "a Python function is offered as a tool, and the call comes with its arguments as an object")
def test_a_call(client: ollama.Client, caller: str) -> None:
    messages = [{"role": "user", "content": f"{CALLS}Q: add 3 and 4\nA:\n"}]
    answer = client.chat(caller, messages, tools=[add], options={**EXACT, "num_predict": 60})
    (call,) = answer.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("add", {"a": 3, "b": 4})
    assert add(**call.function.arguments) == 7
    assert answer.done_reason == "stop"


@requirement("T02", TOOLS, "a streamed call comes whole, in one line")
def test_a_streamed_call(client: ollama.Client, caller: str) -> None:
    messages = [{"role": "user", "content": f"{CALLS}Q: add 3 and 4\nA:\n"}]
    parts = list(client.chat(caller, messages, tools=[add], options={**EXACT, "num_predict": 60}, stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert [call.function.arguments for call in calls] == [{"a": 3, "b": 4}]


@requirement("T03", TOOLS, "`tool_choice` (an extension) makes a call certain: required, or one by name")
def test_tool_choice(gateway: Gateway) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        body = {**ASK, "tools": [ADD], "tool_choice": choice, "stream": False, "options": {**EXACT, "num_predict": 60}}
        answer = ollama.ChatResponse(**post(gateway, "chat", body).json())
        (call, *_) = answer.message.tool_calls or []
        assert call.function.name == "add"
        assert {"a", "b"} <= set(call.function.arguments)


@requirement("T04", TOOLS, "calls and results go back: a result finds its call by `tool_name`, also without an id")
def test_results_go_back(client: ollama.Client) -> None:
    call = ollama.Message.ToolCall(function=ollama.Message.ToolCall.Function(name="add", arguments={"a": 3, "b": 4}))
    messages = [
        {"role": "user", "content": "What is 3 + 4?"},
        ollama.Message(role="assistant", tool_calls=[call]),
        {"role": "tool", "content": "7", "tool_name": "add"},
    ]
    answer = client.chat(MODEL, messages, tools=[add], options=EXACT)
    assert answer.message.content


@requirement("T05", TOOLS, "a result without a call is refused")
def test_a_result_without_a_call(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no earlier assistant message") as caught:
        client.chat(MODEL, [{"role": "tool", "content": "7", "tool_name": "add"}])
    assert caught.value.status_code == 400


@requirement("T06", TOOLS, "tools with an output format are refused, because the engine honours one of them")
def test_tools_with_a_format(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="exclude one another"):
        client.chat(**ASK, tools=[add], format="json")


@requirement("X01", ERRORS, "an unknown model is a 404 that says `model … not found`, in a stream too")
def test_an_unknown_model(client: ollama.Client) -> None:
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
            list(client.chat("nope", ASK["messages"], stream=stream))
        assert caught.value.status_code == 404


@requirement("X02", ERRORS, "an unknown option is refused with the nearest name")
def test_an_unknown_option(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="did you mean 'temperature'") as caught:
        client.chat(**{**ASK, "options": {"temprature": 1}})
    assert caught.value.status_code == 400


@requirement("X03", ERRORS, "what the engine cannot honour is refused: mirostat, typical_p")
def test_what_cannot_be_honoured(client: ollama.Client) -> None:
    for name, value in (("mirostat", 1), ("typical_p", 0.5)):
        with pytest.raises(ollama.ResponseError, match=f"{name} is not supported"):
            client.chat(**{**ASK, "options": {name: value}})


@requirement("X04", ERRORS, "a prompt that is longer than the context is refused with both numbers, never cut")
def test_too_long_a_prompt(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match=r"needs \d+ tokens but the model's context holds 8192") as caught:
        client.chat(**{**ASK, "messages": [{"role": "user", "content": "word " * 9000}]})
    assert caught.value.status_code == 400


@requirement("X05", ERRORS, "a model that embeds does not chat, and one that chats does not embed: 400")
def test_the_wrong_kind_of_model(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="does not generate") as caught:
        client.chat(EMBEDDER, ASK["messages"])
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="does not embed"):
        client.embed(MODEL, "x")


@requirement("X06", ERRORS, 'errors are `{"error": text}`, with the code beside it, and name the field')
def test_the_form_of_errors(gateway: Gateway) -> None:
    response = post(gateway, "chat", {**ASK, "messages": [{"role": "king", "content": "x"}]})
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
    assert response.json()["param"] == "messages[0].role"
    assert isinstance(response.json()["error"], str)


@requirement("X07", ERRORS, "a body that is no JSON, or not an object, is a 400; one that is too large a 413")
def test_bad_bodies(gateway: Gateway) -> None:
    for content in (b"{", b"[]", b'{"a":1,"a":2}'):
        response = httpx2.post(f"{gateway.url}/api/chat", content=content)
        assert (response.status_code, isinstance(response.json()["error"], str)) == (400, True)
    response = httpx2.post(f"{gateway.url}/api/chat", content=b'{"x":"' + b"y" * (17 << 20), timeout=LIMIT_S)
    assert response.status_code == 413


@requirement("X08", ERRORS, "a key of ours that is wrong is a 401, though on loopback none is needed")
def test_a_wrong_key(gateway: Gateway) -> None:
    with new_client(gateway, headers={"Authorization": "Bearer ctn_00000000_" + "0" * 64}) as other:
        with pytest.raises(ollama.ResponseError, match="unknown or was revoked") as caught:
            other.list()
        assert caught.value.status_code == 401


@requirement("X09", ERRORS, "curl without a media type is understood; a page of another origin is not let in")
def test_media_types_and_origins(gateway: Gateway) -> None:
    content = json.dumps({**ASK, "model": ECHO, "options": {}, "stream": False}).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert httpx2.post(f"{gateway.url}/api/chat", content=content, headers=form).status_code == 200
    page = {**form, "origin": "https://example.org"}
    assert httpx2.post(f"{gateway.url}/api/chat", content=content, headers=page).status_code == 403
