"""What the official Anthropic client must find at a running `catena up` with the real model: messages."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest
from tests.clients.anthropic.conftest import ASK, EMBEDDER, MODEL, closed, new_client, said
from tests.clients.conftest import Gateway, requirement, up
from tests.conftest import copied

pytestmark = pytest.mark.model
MESSAGES, STREAMS, USAGE, MODELS = "messages", "streams", "usage", "models"
QUESTION = ASK["messages"][0]


def ask(client: anthropic.Anthropic, **change: Any) -> anthropic.types.Message:
    """The answer at once."""
    return client.messages.create(**{**ASK, **change})


def blocks(*texts: str) -> Any:
    return [{"type": "text", "text": text} for text in texts]


def warning(client: anthropic.Anthropic, **change: Any) -> str:
    """What the answer says was not honoured."""
    raw = client.messages.with_raw_response.create(**{**ASK, "max_tokens": 1, **change})
    return raw.headers.get("catena-warning", "")


@requirement("M01", MESSAGES, "an answer at once has id, type, role, model, content, stop reason, usage")
def test_an_answer_at_once(client: anthropic.Anthropic) -> None:
    answer = ask(client)
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
    assert [block.type for block in answer.content] == ["text"]
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert anthropic.types.Message.model_validate(answer.model_dump(), strict=True)


@requirement("M02", MESSAGES, "`system` is honoured, and as blocks it means the same as in one text")
def test_system(client: anthropic.Anthropic) -> None:
    whole, parts = "Answer in one word.", blocks("Answer in", " one word.")
    answers = [said(ask(client, max_tokens=12, **change)) for change in ({"system": whole}, {"system": parts}, {})]
    assert answers[0] == answers[1] != answers[2]


@requirement("M03", MESSAGES, "content may be a list of text blocks")
def test_content_blocks(client: anthropic.Anthropic) -> None:
    text = QUESTION["content"]
    split = [{"role": "user", "content": blocks(text[:8], text[8:])}]
    assert said(ask(client, messages=split)) == said(ask(client))


@requirement("M04", MESSAGES, "a conversation goes on: an answer is sent back as it came")
def test_a_conversation_goes_on(client: anthropic.Anthropic) -> None:
    first = ask(client)
    turns = [QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": "And a zebra's?"}]
    longer = ask(client, messages=turns)
    assert total(longer) > total(first)
    again = [QUESTION, first.to_param(), turns[-1]]
    assert total(ask(client, messages=again, max_tokens=1)) == total(longer)


@requirement("M05", MESSAGES, "turns of the user that follow one another are one turn")
def test_turns_are_joined(client: anthropic.Anthropic) -> None:
    turns = [{"role": "user", "content": "Name the colours"}, {"role": "user", "content": "of a traffic light."}]
    joined = [{"role": "user", "content": "Name the colours\n\nof a traffic light."}]
    assert said(ask(client, messages=turns)) == said(ask(client, messages=joined))


@requirement("M06", MESSAGES, "a turn of role `system` may stand between the others")
def test_a_later_system_turn(client: anthropic.Anthropic) -> None:
    turns = [QUESTION, {"role": "system", "content": "Answer in one word."}]
    assert total(ask(client, messages=turns, max_tokens=1)) > total(ask(client, max_tokens=1))


@requirement("M07", MESSAGES, "a document of plain text and a search result are read")
def test_documents(client: anthropic.Anthropic) -> None:
    document = {
        "type": "document",
        "title": "Lights",
        "source": {"type": "text", "media_type": "text/plain", "data": "Red, amber and green. " * 2},
    }
    found = {"type": "search_result", "title": "Lights", "source": "shelf", "content": blocks("Red and green. " * 3)}
    for block in (document, found):
        turns = [{"role": "user", "content": [block, *blocks(QUESTION["content"])]}]
        assert total(ask(client, messages=turns, max_tokens=1)) > total(ask(client, max_tokens=1)) + 10


@requirement("M08", MESSAGES, "`max_tokens` ends the answer with `max_tokens`, after that many")
def test_max_tokens(client: anthropic.Anthropic) -> None:
    answer = ask(client, max_tokens=3)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 3)


@requirement("M09", MESSAGES, "an answer that is complete ends with `end_turn` and no stop sequence")
def test_end_turn(client: anthropic.Anthropic) -> None:
    answer = ask(client, messages=[{"role": "user", "content": "Say hello."}], max_tokens=99)
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)


@requirement("M10", MESSAGES, "`stop_sequences` end the answer before the text, and `stop_sequence` says which did")
def test_stop_sequences(client: anthropic.Anthropic) -> None:
    whole = said(ask(client))
    word = whole.split()[3]
    answer = ask(client, stop_sequences=["never said", word])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", word)
    assert said(answer) == whole[: whole.index(word)]


@requirement("M11", MESSAGES, "an answer that ends by itself though there are stop sequences ends with `end_turn`")
def test_stop_sequences_that_are_not_met(client: anthropic.Anthropic) -> None:
    turns = [{"role": "user", "content": "Say hello."}]
    answer = ask(client, messages=turns, max_tokens=200, stop_sequences=["zebra crossing"])
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)


@requirement("M12", MESSAGES, "`temperature` 0 is deterministic, and `top_k` 1 or a tiny `top_p` mean the same")
def test_sampling(client: anthropic.Anthropic) -> None:
    greedy = said(ask(client))
    assert said(ask(client)) == greedy
    for body in ({"temperature": 1, "top_k": 1}, {"temperature": 1, "top_p": 0.0001}):
        assert said(ask(client, extra_body=body)) == greedy


@requirement("M13", MESSAGES, "`max_tokens` may exceed the context: the answer ends where it ends")
def test_max_tokens_over_the_context(client: anthropic.Anthropic) -> None:
    answer = ask(client, messages=[{"role": "user", "content": "Say hello."}], max_tokens=20_000)
    assert answer.stop_reason == "end_turn"


@requirement("M14", MESSAGES, "an answer that fills the context ends with `model_context_window_exceeded`")
def test_the_context_is_full(models_home: Path, tmp_path: Path) -> None:
    with up(copied(models_home, tmp_path / "home"), CATENA__RUN__CONTEXT_TOKENS="256") as small:
        client = new_client(small.url)
        # So long that little room is left, and nothing but a long answer fits it.
        turns = [{"role": "user", "content": "Tell a very long story about a dragon. " + "It flew. " * 62}]
        with client.messages.stream(**{**ASK, "messages": turns, "max_tokens": 5000}) as stream:
            answer = stream.get_final_message()
        assert answer.stop_reason == "model_context_window_exceeded"
        assert total(answer) + answer.usage.output_tokens in (255, 256, 257)


@requirement("M15", MESSAGES, "a model answers to its alias and to its manifest digest, and the answer says its name")
def test_alias_and_digest(client: anthropic.Anthropic) -> None:
    digest = client.models.retrieve(MODEL).model_extra["catena"]["digest"]  # type: ignore[index]
    for name in ("default", digest):
        assert ask(client, model=name, max_tokens=1).model == MODEL


@requirement("M16", MESSAGES, "what is accepted but not honoured is named in `catena-warning`")
def test_warnings(client: anthropic.Anthropic) -> None:
    assert "metadata ignored" in warning(client, metadata={"user_id": "u"})
    assert "cache_control ignored" in warning(client, cache_control={"type": "ephemeral"})
    marked = [{**blocks("Be short.")[0], "cache_control": {"type": "ephemeral"}}]
    assert "cache_control ignored" in warning(client, system=marked)
    assert "effort ignored" in warning(client, output_config={"effort": "low"})
    assert warning(client) == warning(client, service_tier="auto") == ""


@requirement("M17", MESSAGES, "the beta client gets the same answer; betas are honoured or named in `catena-warning`")
def test_betas(client: anthropic.Anthropic) -> None:
    answer = client.beta.messages.create(**ASK, betas=["interleaved-thinking-2025-05-14"])
    assert answer.content[0].text == said(ask(client))  # type: ignore[union-attr]
    raw = client.beta.messages.with_raw_response.create(
        **{**ASK, "max_tokens": 1}, betas=["prompt-caching-2024-07-31", "tomorrow-2099-01-01"]
    )
    assert raw.headers["catena-warning"].count("anthropic-beta") == 2


@requirement("M18", MESSAGES, "every answer has a receipt, whose record has the same usage, and a request id")
def test_receipt(client: anthropic.Anthropic, gateway: Gateway) -> None:
    raw = client.messages.with_raw_response.create(**ASK)
    answer = raw.parse()
    record = closed(gateway, raw.headers["catena-receipt"])
    assert record["outcome"] == "complete"
    assert record["usage"]["completion_tokens"] == answer.usage.output_tokens
    assert answer.id.removeprefix("msg_") == raw.headers["catena-receipt"].removeprefix("rcpt_")
    assert answer._request_id == raw.headers["request-id"]


@requirement("M19", MESSAGES, "`output_config` with a JSON schema binds the answer")
def test_json_schema(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    answer = ask(client, max_tokens=60, output_config={"format": {"type": "json_schema", "schema": schema}})
    found = json.loads(said(answer))
    assert found["colour"] in ("red", "green")
    assert isinstance(found["count"], int)


@requirement("M20", MESSAGES, "`messages.parse` gives an object of a pydantic class, at once and streamed")
def test_parse(client: anthropic.Anthropic) -> None:
    import pydantic

    class Light(pydantic.BaseModel):
        colour: str
        is_on: bool

    body = {**ASK, "max_tokens": 60}
    assert isinstance(client.messages.parse(**body, output_format=Light).parsed_output, Light)
    with client.messages.stream(**body, output_format=Light) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Light)


@requirement("S01", STREAMS, "the stream of the same question at temperature 0 says the same")
def test_a_stream_says_the_same(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == said(ask(client))


@requirement("S02", STREAMS, "the events come in the order of the API, each with its name")
def test_the_order_of_events(client: anthropic.Anthropic) -> None:
    names = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[2:-3]) == {"content_block_delta"}


@requirement("S03", STREAMS, "the message put together from a stream equals the one at once: content, reason, usage")
def test_the_final_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASK) as stream:
        final = stream.get_final_message()
    whole = ask(client)
    assert said(final) == said(whole)
    for name in ("model", "role", "stop_reason", "stop_sequence", "type"):
        assert getattr(final, name) == getattr(whole, name), name
    assert total(final) == total(whole)
    assert final.usage.output_tokens == whole.usage.output_tokens


@requirement("S04", STREAMS, "a stop sequence ends a stream as it ends an answer at once")
def test_a_stop_sequence_in_a_stream(client: anthropic.Anthropic) -> None:
    word = said(ask(client)).split()[3]
    with client.messages.stream(**ASK, stop_sequences=[word]) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", word)
    assert said(final) == said(ask(client, stop_sequences=[word]))


@requirement("S05", STREAMS, "AsyncAnthropic gets answers at once and streamed")
def test_async(gateway: Gateway) -> None:
    async def main() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="x", max_retries=0) as client:
            whole = await client.messages.create(**ASK)
            async with client.messages.stream(**ASK) as stream:
                return said(whole), "".join([text async for text in stream.text_stream])

    whole, streamed = anyio.run(main)
    assert whole == streamed != ""


@requirement("S06", STREAMS, "eight streams at once over four slots all end well, each with its own text and receipt")
def test_eight_streams(client: anthropic.Anthropic) -> None:
    def one(number: int) -> tuple[str, str]:
        turns = [{"role": "user", "content": f"Count to {number}."}]
        with client.messages.stream(**{**ASK, "messages": turns, "max_tokens": 8}) as stream:
            return stream.get_final_text(), stream.response.headers["catena-receipt"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(2, 10)))
    assert all(text for text, _ in answers)
    assert len({receipt for _, receipt in answers}) == 8


def total(answer: Any) -> int:
    """Tokens of the prompt, cached or not."""
    return answer.usage.input_tokens + answer.usage.cache_read_input_tokens


@requirement("U01", USAGE, "cached tokens are not among `input_tokens`; together they are the prompt")
def test_cached_tokens(client: anthropic.Anthropic) -> None:
    turns = [{"role": "user", "content": "A prompt that nobody sent before: " + "red green blue " * 10}]
    first, second = (ask(client, messages=turns, max_tokens=2) for _ in range(2))
    assert second.usage.cache_read_input_tokens is not None
    assert second.usage.cache_read_input_tokens > (first.usage.cache_read_input_tokens or 0)
    assert second.usage.input_tokens < first.usage.input_tokens
    assert total(first) == total(second)


@requirement("U02", USAGE, "`count_tokens` says exactly what the prompt of a message has")
def test_count_tokens(client: anthropic.Anthropic) -> None:
    question = {"model": MODEL, "messages": ASK["messages"]}
    assert client.messages.count_tokens(**question).input_tokens == total(ask(client, max_tokens=1))


@requirement("U03", USAGE, "`count_tokens` counts system, tools, earlier turns and the choice of a tool exactly")
def test_count_tokens_of_everything(client: anthropic.Anthropic) -> None:
    from tests.clients.anthropic.conftest import ADD

    turns = [QUESTION, {"role": "assistant", "content": "Red."}, {"role": "user", "content": "Go on."}]
    for choice in ({"type": "auto"}, {"type": "any"}, {"type": "none"}):
        prompt: Any = {"model": MODEL, "messages": turns, "system": "Be short.", "tools": [ADD], "tool_choice": choice}
        counted = client.messages.count_tokens(**prompt).input_tokens
        assert counted == total(client.messages.create(**prompt, max_tokens=1))


@requirement("U04", USAGE, "a prompt longer than the context has a count too, so that it can be shortened")
def test_count_tokens_over_the_context(client: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "user", "content": "word " * 9000}]
    counted = client.messages.count_tokens(model=MODEL, messages=turns).input_tokens
    assert counted > 9000
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, messages=turns, max_tokens=1)
    assert str(counted + 1) in caught.value.message


@requirement("U05", USAGE, "a count has a receipt; its record has no tokens spent")
def test_count_tokens_receipt(client: anthropic.Anthropic, gateway: Gateway) -> None:
    raw = client.messages.with_raw_response.count_tokens(model=MODEL, messages=ASK["messages"])
    record = closed(gateway, raw.headers["catena-receipt"])
    assert (record["outcome"], record["usage"]) == ("complete", None)
    opened = gateway.get(f"/catena/v1/receipts/{raw.headers['catena-receipt']}")["opened"]
    assert (opened["task"], opened["door"]) == ("count", "anthropic.count_tokens")


@requirement("U06", USAGE, "`count_tokens` of a model that is not there, or that does not generate, is an error")
def test_count_tokens_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nope", messages=ASK["messages"])
    with pytest.raises(anthropic.BadRequestError):
        client.messages.count_tokens(model="bge-small-en-v1.5", messages=ASK["messages"])
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.count_tokens(model=MODEL, messages=ASK["messages"], extra_body={"max_tokens": 5})
    assert "max_tokens" in caught.value.message


@requirement("L01", MODELS, "`models.list` names the models that can be asked, each with its context")
def test_models_are_listed(client: anthropic.Anthropic) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {MODEL, "echo"} <= set(models)
    assert EMBEDDER not in models
    assert models[MODEL].max_input_tokens == 8192
    assert models[MODEL].created_at.year >= 2024


@requirement("L02", MODELS, "`models.list` comes in pages, which the client turns by itself")
def test_models_in_pages(client: anthropic.Anthropic) -> None:
    first = client.models.list(limit=1)
    assert (len(first.data), first.has_more) == (1, True)
    assert [model.id for model in first] == [model.id for model in client.models.list()]


@requirement("L03", MODELS, "`models.retrieve` shows one model by name and by its alias")
def test_a_model_is_shown(client: anthropic.Anthropic) -> None:
    assert client.models.retrieve("default").id == client.models.retrieve(MODEL).id == MODEL


@requirement("L04", MODELS, "the OpenAI protocol keeps its own list at the same address")
def test_the_other_list(client: anthropic.Anthropic, gateway: Gateway) -> None:
    assert gateway.get("/v1/models")["object"] == "list"
