"""OpenAI's dialect: what is sent is the reference's, what comes back becomes events, and each quirk does one thing."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import msgspec
import pytest
from tests.providers.answers import Answer, Asked, Call
from tests.providers.openai import OpenAI as Speaker
from tests.run.dialects.playing import gathered, play

from catena.core.errors import (
    BusyError,
    ContextError,
    InputError,
    NetworkError,
    ProviderError,
    UnsupportedError,
)
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Image,
    Message,
    OutputFormat,
    PredictRequest,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from catena.run.dialects.openai import QUIRKS, OpenAI, dialect

HI = Message("user", (Text("Hi"),))
LOOK = Tool("look", "Looks", {"type": "object", "properties": {"a": {"type": "integer"}}}, strict=True)


def chat(*messages: Message, **options: Any) -> ChatRequest:
    return ChatRequest("far/big", messages or (HI,), **options)


def sent(request: Any, *quirks: str) -> dict[str, Any]:
    return msgspec.json.decode(OpenAI(quirks).generate(request, "big").body)


def answered(request: Any, answer: Answer) -> bytes:
    """What a server that takes only what the reference has answers to `request`."""
    out = dialect.generate(request, "big")
    reply = Speaker().reply(Asked(out.method, "/v1" + out.path, out.headers, out.body), answer)
    assert reply.status == 200, reply.pieces
    return b"".join(reply.pieces)


def test_a_whole_conversation_is_sent_as_the_reference_has_it() -> None:
    request = chat(
        Message("system", (Text("Be brief"),)),
        Message("user", (Text("See"), Image(b"\x89PNG", "image/png"), Audio(b"RIFF", "audio/x-wav")), name="ann"),
        Message("assistant", (), (ToolCall("c1", "look", '{"a":1}'),)),
        Message("tool", (Text("seen"),), tool_call_id="c1"),
        sampling=Sampling(
            max_tokens=9, temperature=0.0, top_p=0.5, seed=0, stop=("x", "y"), num_choices=2, logprobs=3,
            logit_bias={5: -1.5}, presence_penalty=0.1, frequency_penalty=0.2,
        ),
        tools=(LOOK,),
        tool_choice=ToolChoice("named", "look"),
        parallel_tool_calls=False,
    )  # fmt: skip
    body = sent(request)
    assert body["messages"][1] == {
        "role": "user",
        "name": "ann",
        "content": [
            {"type": "text", "text": "See"},
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()},
            },
            {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
        ],
    }
    assert body["messages"][2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1}'}
    assert body["messages"][2]["content"] is None
    assert body["messages"][3] == {"role": "tool", "content": "seen", "tool_call_id": "c1"}
    assert (body["max_tokens"], body["temperature"], body["seed"], body["n"]) == (9, 0.0, 0, 2)
    assert (body["logprobs"], body["top_logprobs"], body["logit_bias"]) == (True, 3, {"5": -1.5})
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["tools"][0]["function"]["strict"] is True and body["parallel_tool_calls"] is False
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert answered(request, Answer())


@pytest.mark.parametrize(
    ("output", "wire"),
    [
        (OutputFormat("json"), {"type": "json_object"}),
        (
            OutputFormat("schema", {"type": "object"}),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
def test_an_output_format_is_carried(output: OutputFormat, wire: Any) -> None:
    assert sent(chat(output=output))["response_format"] == wire


def test_completions_carry_text_or_tokens() -> None:
    request = CompletionRequest("m", (1, 2), Sampling(logprobs=2, max_tokens=3), echo=True, suffix="end")
    out = OpenAI(("max_completion_tokens",)).generate(request, "big")
    body = msgspec.json.decode(out.body)
    assert out.path == "/completions" and (body["prompt"], body["logprobs"], body["suffix"]) == ([1, 2], 2, "end")
    assert body["max_tokens"] == 3 and "max_completion_tokens" not in body


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat(output=OutputFormat("grammar", grammar="root ::= 'a'")), "response_format"),
        (chat(adapters={"a": 1.0}), "adapters"),
        (chat(Message("assistant", (Image(b"x", "image/png"),))), "messages"),
    ],
)
def test_what_the_reference_has_no_words_for_is_refused(request_: Any, param: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        sent(request_)
    assert caught.value.param == param


def test_what_only_colours_is_named_as_lost() -> None:
    sampling = Sampling(top_k=1, min_p=0.1, repeat_penalty=1.1, ignore_eos=True)
    message = Message("assistant", (Text("a"),), reasoning="because")
    assert dialect.generate(chat(HI, message, sampling=sampling, think=True), "big").lost == (
        *("sampling.top_k", "sampling.min_p", "sampling.repeat_penalty", "sampling.ignore_eos", "think"),
        "messages.reasoning",
    )


WISHES = Sampling(
    max_tokens=4, top_k=1, min_p=0.1, repeat_penalty=1.1, seed=3, ignore_eos=True, presence_penalty=0.5,
    logit_bias={1: 1.0},
)  # fmt: skip
QUIRKY: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 1},
    "min_p": {"min_p": 0.1},
    "repeat_penalty": {"repeat_penalty": 1.1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "random_seed": {"random_seed": 3, "seed": None},
    "ignore_eos": {"ignore_eos": True},
    "max_completion_tokens": {"max_completion_tokens": 4, "max_tokens": None},
    "no_stream_options": {"stream_options": None},
    "no_seed": {"seed": None},
    "no_penalties": {"presence_penalty": None},
    "no_logit_bias": {"logit_bias": None},
    "enable_thinking": {"enable_thinking": False},
    "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": False}},
    "thinking_type": {"thinking": {"type": "disabled"}},
    "reasoning_effort": {"reasoning_effort": "none"},
    "reasoning_enabled": {"reasoning": {"enabled": False}},
}


@pytest.mark.parametrize("quirk", sorted(QUIRKY))
def test_each_quirk_changes_its_own_fields_and_no_other(quirk: str) -> None:
    request = chat(sampling=WISHES, think=False)
    plain, body = sent(request), sent(request, quirk)
    assert {name: body.get(name) for name in QUIRKY[quirk]} == QUIRKY[quirk]
    assert {name for name in {*plain, *body} if plain.get(name) != body.get(name)} == set(QUIRKY[quirk])


def test_the_other_quirks_concern_headers_refusals_and_messages() -> None:
    others = QUIRKS - set(QUIRKY)
    assert others == {
        *("api_key_header", "no_json_schema", "no_logprobs", "grammar", "reasoning_content", "auto_tool_choice"),
        "no_message_name",
    }
    assert OpenAI(("api_key_header",)).headers("k") == {"api-key": "k"}
    assert dialect.headers("k") == {"authorization": "Bearer k"} and dialect.headers(None) == {}
    for request, quirk in (
        (chat(output=OutputFormat("schema", {})), "no_json_schema"),
        (chat(sampling=Sampling(logprobs=0)), "no_logprobs"),
        (chat(tools=(LOOK,), tool_choice=ToolChoice("required")), "auto_tool_choice"),
    ):
        with pytest.raises(UnsupportedError):
            sent(request, quirk)
    assert sent(chat(output=OutputFormat("grammar", grammar="g")), "grammar")["grammar"] == "g"
    thought = Message("assistant", (Text("a"),), reasoning="because", name="bob")
    assert sent(chat(HI, thought), "reasoning_content")["messages"][1]["reasoning_content"] == "because"
    assert "tools" not in sent(chat(tools=(LOOK,), tool_choice=ToolChoice("none")), "auto_tool_choice")
    nameless = OpenAI(("no_message_name", "reasoning_content")).generate(chat(thought), "big")
    assert nameless.lost == ("messages.name",) and b"bob" not in nameless.body


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_text_reasoning_parallel_calls_and_usage_stream_back(size: int) -> None:
    calls = (Call("c1", "look", ('{"a"', ":1}")), Call("c2", "look", ("{}",)))
    answer = Answer(("hm", "m"), ("a", "é"), calls, cached_tokens=3, reasoning_tokens=1)
    request = chat(tools=(LOOK,))
    reply = gathered(play(dialect, request, answered(request, answer), size=size))
    (choice,) = reply.choices
    assert (choice.reasoning, choice.text, choice.reason) == ("hmm", "aé", "tool_calls")
    assert choice.tool_calls == (ToolCall("c1", "look", '{"a":1}'), ToolCall("c2", "look", "{}"))
    usage = reply.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (5, 2, 3, 1)


def test_several_choices_all_have_to_finish() -> None:
    request = chat(sampling=Sampling(num_choices=2))
    body = answered(request, Answer())
    assert [choice.text for choice in gathered(play(dialect, request, body)).choices] == ["Hello world"] * 2
    half = body[: body.rindex(b'"finish_reason":"stop"') - 200]
    with pytest.raises(NetworkError, match="cut before its end"):
        gathered(play(dialect, request, half))


def chunk(**choice: Any) -> bytes:
    return b"data: " + msgspec.json.encode({"choices": [{"index": 0, **choice}]}) + b"\n\n"


STOP = chunk(delta={}, finish_reason="stop")


def read(*pieces: bytes) -> Any:
    return gathered(play(dialect, chat(), b"".join(pieces)))


def test_the_dialects_of_others_are_read_too() -> None:
    """`reasoning` for `reasoning_content`; parts; usage in a choice or apart; no `[DONE]`; unnumbered calls."""
    assert read(chunk(delta={"reasoning": "r"}), STOP).choices[0].reasoning == "r"
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "a"}]
    assert (read(chunk(delta={"content": parts}), STOP).choices[0].reasoning) == "t"
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "prompt_cache_hit_tokens": 2}
    assert read(chunk(delta={"content": "a"}, usage=usage), STOP).usage.cached_tokens == 2
    apart = b'data: {"choices": [], "x_groq": {"usage": {"prompt_tokens": 4, "completion_tokens": 1}}}\n\n'
    assert read(STOP, apart).usage.prompt_tokens == 4
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    made = read(chunk(delta={"tool_calls": [call]}), STOP).choices[0]
    assert made.tool_calls == (ToolCall("call_0_0", "f", '{"a":1}'),) and made.reason == "tool_calls"


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource", "network_error"])
def test_an_answer_that_the_provider_gave_up_is_no_clean_end(reason: str) -> None:
    with pytest.raises(NetworkError, match="stopped before the answer's end"):
        read(chunk(delta={"content": "a"}), chunk(delta={}, finish_reason=reason), b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"data: [DONE]\n\n",
        chunk(delta={"content": "a"}),
        chunk(delta={"content": "a"}) + b"data: [DONE]\n\n",
        STOP[:20],
        b"data: {]\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": 3}\n\n',
        b"<html>",
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_a_body_that_is_cut_or_no_stream_is_an_error(body: bytes) -> None:
    with pytest.raises(NetworkError):
        read(body)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "m"}, BusyError),
        ({"code": 400, "type": "BadRequestError"}, InputError),
        ({"code": "rate_limit_exceeded"}, BusyError),
        ({"code": "insufficient_quota"}, ProviderError),
        ({"message": "boom"}, NetworkError),
        ("boom", NetworkError),
    ],
)
def test_an_error_inside_a_stream_has_its_place(error: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read(chunk(delta={"content": "a"}), b"data: " + msgspec.json.encode({"error": error}) + b"\n\n")


def test_errors_tell_a_word_a_parameter_and_both_numbers_of_a_context() -> None:
    detail = {"message": "secret", "type": "invalid_request_error", "param": "tools", "code": "bad_tools"}
    error = dialect.error(400, {}, msgspec.json.encode({"error": detail}))
    assert isinstance(error, InputError) and error.param == "tools" and "bad_tools" in error.message
    assert "secret" not in str(error)
    text = "This model's maximum context length is 100 tokens. However, your messages resulted in 250 tokens."
    for body in (
        {"error": {"message": text, "code": "context_length_exceeded"}},
        {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 250, "n_ctx": 100}},
        {"object": "error", "message": "maximum context length is 100 tokens, you requested 250 tokens"},
    ):
        error = dialect.error(400, {}, msgspec.json.encode(body))
        assert isinstance(error, ContextError) and (error.needed, error.available) == (250, 100)
    quota = msgspec.json.encode({"error": {"code": "insufficient_quota"}})
    assert isinstance(dialect.error(429, {}, quota), ProviderError)
    for junk in (b"", b"<html>", b"[]", b'"x"', b'{"error": "text"}', b"\xff"):
        assert isinstance(dialect.error(500, {}, junk), NetworkError)


def test_vectors_are_put_in_order_and_brought_to_length_one() -> None:
    request = EmbedRequest("m", ("a", "b"), dimensions=2)
    out = dialect.embed(request, "big")
    assert msgspec.json.decode(out.body) == {
        "model": "big", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2
    }  # fmt: skip
    rows = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [3, 4]}]
    found = dialect.embedded(msgspec.json.encode({"data": rows, "usage": {"prompt_tokens": 4}}), request)
    assert struct.unpack("<2f", found.vectors[0]) == pytest.approx((0.6, 0.8)) and found.usage.prompt_tokens == 4
    assert math.isclose(struct.unpack("<2f", found.vectors[1])[1], 1)


@pytest.mark.parametrize("rows", [[], [[1.0]], [[1.0], [1.0, 2.0]], [[], []]])
def test_vectors_that_do_not_fit_the_question_are_refused(rows: list[list[float]]) -> None:
    body = msgspec.json.encode({"data": [{"embedding": row} for row in rows]})
    with pytest.raises(NetworkError):
        dialect.embedded(body, EmbedRequest("m", ("a", "b")))


def test_models_are_listed_and_arrays_are_impossible() -> None:
    assert dialect.models().path == "/models"
    assert dialect.listed(b'{"data": [{"id": "a"}, {"id": "b"}]}') == ("a", "b")
    with pytest.raises(UnsupportedError):
        dialect.predict(PredictRequest("m", ()), "m")
    with pytest.raises(UnsupportedError):
        dialect.predicted(b"", {}, PredictRequest("m", ()))


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        # vLLM, in the words of several versions
        ("This model's maximum context length is 100 tokens. However, your request has 250 input tokens.", 250),
        (
            "This model's maximum context length is 100 tokens. However, you requested 60 output tokens and your "
            "prompt contains at least 90 input tokens, for a total of at least 150 tokens.",
            150,
        ),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 80. This model's maximum context length is 100 "
            "tokens and your request has 30 input tokens (80 > 100 - 30).",
            110,
        ),
        (
            "You passed 70 input tokens and requested 40 output tokens. However, the model's context length is only "
            "100 tokens, resulting in a maximum input length of 60 tokens.",
            110,
        ),
        # SGLang
        ("The input (250 tokens) is longer than the model's context length (100 tokens).", 250),
        (
            "Requested token count exceeds the model's maximum context length of 100 tokens. You requested a total of "
            "130 tokens: 30 tokens from the input messages and 100 tokens for the completion.",
            130,
        ),
    ],
)
def test_the_numbers_of_a_context_are_read_from_the_sentences_of_vllm_and_sglang(text: str, needed: int) -> None:
    error = dialect.error(400, {}, msgspec.json.encode({"error": {"message": text, "type": "BadRequestError"}}))
    assert isinstance(error, ContextError)
    assert (error.needed, error.available) == (needed, 100)
