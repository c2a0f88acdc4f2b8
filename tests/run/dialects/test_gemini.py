"""The Gemini API: what a request becomes, what its streams, vectors, counts and errors mean, signed parts."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from tests.run.dialects.playing import gathered, play, recorded

from catena.core.errors import (
    BusyError,
    CatenaError,
    ContextError,
    InputError,
    NetworkError,
    NotFoundError,
    ProviderError,
    UnsupportedError,
)
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbedRequest,
    Finished,
    Image,
    Message,
    OutputFormat,
    Sampling,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolChoice,
    TopLogprob,
    Usage,
)
from catena.run.dialects.dialect import Outgoing
from catena.run.dialects.gemini import dialect

HELLO = ChatRequest("m", (Message("user", (Text("Hi"),)),))
WEATHER = Tool("weather", "of a city", {"type": "object", "properties": {"city": {"type": "string"}}})


def asked(request: Any, model: str = "gemini-2.5-flash") -> tuple[dict[str, Any], Outgoing]:
    out = dialect.generate(request, model)
    return msgspec.json.decode(out.body), out


def chunk(**fields: Any) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def ended(reason: str, *parts: dict[str, Any]) -> bytes:
    return chunk(candidates=[{"content": {"parts": parts, "role": "model"}, "finishReason": reason}])


def test_a_conversation_becomes_contents_of_two_roles_with_the_system_beside_them() -> None:
    call = ToolCall("t1", "weather", '{"city": "Bern"}')
    request = ChatRequest(
        "m",
        (
            Message("system", (Text("Be brief."),)),
            Message("user", (Text("Weather?"), Image(b"\x89PNG", "image/png"), Audio(b"RIFF", "audio/wav"))),
            Message("assistant", (Text("Looking."),), (call,)),
            Message("tool", (Text("rain"), Image(b"\x89PNG", "image/png")), tool_call_id="t1"),
            Message("user", (Text("And?"),)),
        ),
        Sampling(50, 0.5, 0.9, 3, None, 0.1, 0.2, None, 7, ("END",)),
        tools=(WEATHER, Tool("now")),
    )
    body, out = asked(request)
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}
    assert out.path == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse" and out.lost == ()
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Weather?"},
                    image,
                    {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "Looking."},
                    {"functionCall": {"id": "t1", "name": "weather", "args": {"city": "Bern"}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "id": "t1",
                            "name": "weather",
                            "response": {"output": "rain"},
                            "parts": [image],
                        }
                    },
                    {"text": "And?"},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "weather", "description": "of a city", "parametersJsonSchema": WEATHER.parameters},
                    {"name": "now", "description": ""},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 3,
            "presencePenalty": 0.1,
            "frequencyPenalty": 0.2,
            "seed": 7,
            "maxOutputTokens": 50,
            "stopSequences": ["END"],
        },
    }


@pytest.mark.parametrize(
    ("choice", "tool", "wire"),
    [
        (ToolChoice(), Tool("f"), {"mode": "AUTO"}),
        (ToolChoice(), Tool("f", strict=True), {"mode": "VALIDATED"}),
        (ToolChoice("none"), Tool("f"), {"mode": "NONE"}),
        (ToolChoice("required"), Tool("f"), {"mode": "ANY"}),
        (ToolChoice("named", "f"), Tool("f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_each_choice_of_tools_has_its_words(choice: ToolChoice, tool: Tool, wire: Any) -> None:
    body, _ = asked(msgspec.structs.replace(HELLO, tools=(tool,), tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": wire}


def test_json_choices_and_log_probabilities_are_asked_for_in_the_configuration() -> None:
    schema = {"type": "object"}
    sampling = Sampling(num_choices=2, logprobs=3)
    body, _ = asked(msgspec.structs.replace(HELLO, output=OutputFormat("schema", schema), sampling=sampling))
    assert body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 3,
    }
    body, _ = asked(msgspec.structs.replace(HELLO, output=OutputFormat("json")))
    assert body["generationConfig"] == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("model", "think", "wire", "lost"),
    [
        ("gemini-2.5-flash", True, {"includeThoughts": True}, ()),
        ("gemini-2.5-flash", False, {"thinkingBudget": 0}, ()),
        ("gemini-2.5-pro", False, {"thinkingBudget": 128}, ("think",)),
        ("gemini-3.8-flash", False, {"thinkingLevel": "MINIMAL"}, ("think",)),
        ("gemini-3-pro-preview", False, {"thinkingLevel": "LOW"}, ("think",)),
    ],
)
def test_each_model_thinks_or_does_not_in_its_own_way(model: str, think: bool, wire: Any, lost: Any) -> None:
    body, out = asked(msgspec.structs.replace(HELLO, think=think), model)
    assert body["generationConfig"]["thinkingConfig"] == wire and out.lost == lost


def test_wishes_that_only_colour_an_answer_are_named_as_lost() -> None:
    request = ChatRequest(
        "m",
        (
            Message("user", (Text("a"),), name="Ada"),
            Message("assistant", (Text("b"),), reasoning="of another"),
            Message("system", (Text("c"),)),
        ),
        Sampling(seed=1 << 40, min_p=0.1, logit_bias={1: 1.0}),
        tools=(WEATHER,),
        parallel_tool_calls=False,
    )
    body, out = asked(request)
    assert "generationConfig" not in body
    assert sorted(out.lost) == [
        "messages.name",
        "messages.reasoning",
        "messages.system",
        "parallel_tool_calls",
        "sampling.logit_bias",
        "sampling.min_p",
        "sampling.seed",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"output": OutputFormat("grammar", grammar="root ::= x")},
        {"sampling": Sampling(num_choices=9)},
        {"sampling": Sampling(stop=tuple("abcdef"))},
        {"adapters": {"a": 1.0}},
        {"tools": (Tool("1st"),)},
        {"messages": (Message("user", (Image(b"GIF8", "image/gif"),)),)},
        {"messages": (Message("user", (Audio(b"x", "audio/midi"),)),)},
    ],
)
def test_what_the_api_has_no_words_for_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="the gemini dialect cannot carry"):
        asked(msgspec.structs.replace(HELLO, **change))


def test_a_result_needs_the_call_that_it_answers() -> None:
    with pytest.raises(InputError, match="no earlier assistant message"):
        asked(ChatRequest("m", (Message("tool", (Text("x"),), tool_call_id="t9"),)))


def test_a_text_to_be_continued_becomes_a_turn_and_is_named_and_repeated_here() -> None:
    request = CompletionRequest("m", "Once ", echo=True)
    body, out = asked(request)
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Once "}]}]} and out.lost == ("prompt",)
    assert gathered(play(dialect, request, recorded("gemini_text.sse"))).choices[0].text == "Once Hello world"


@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_thoughts_and_text_stream_and_usage_counts_both(size: int) -> None:
    events = list(play(dialect, HELLO, recorded("gemini_text.sse"), size=size))
    assert events == [
        Delta(reasoning="Weighing it. "),
        Delta(text="Hello"),
        Delta(text=" world"),
        Delta(seal="gemini:text:11:CiQBabc+/w=="),
        Finished(0, "stop"),
        Usage(100, 24, cached_tokens=64, reasoning_tokens=20),
    ]


def test_whole_calls_get_ids_that_are_the_same_each_time_and_end_as_calls() -> None:
    once, again = (
        gathered(play(dialect, HELLO, recorded("gemini_tools.sse"), size=size)).choices[0] for size in (9, 999)
    )
    assert once == again and once.reason == "tool_calls"
    assert [(call.name, call.arguments) for call in once.tool_calls] == [
        ("weather", '{"city":"Bern"}'),
        ("weather", '{"city":"Zürich"}'),
        ("now", "{}"),
    ]
    first, second, third = (call.id for call in once.tool_calls)
    assert first != second and first.startswith("call_") and third == "h2k9"
    other = recorded("gemini_tools.sse").replace(b"rEsP0nse-2", b"rEsP0nse-9")
    assert gathered(play(dialect, HELLO, other)).choices[0].tool_calls[0].id != first


def test_signatures_go_back_on_the_parts_that_they_came_with() -> None:
    called = gathered(play(dialect, HELLO, recorded("gemini_tools.sse"))).choices[0]
    said = gathered(play(dialect, HELLO, recorded("gemini_text.sse"))).choices[0]
    turns = tuple(
        Message(
            "assistant", (Text(one.text),) if one.text else (), one.tool_calls, None, None, one.reasoning, one.seals
        )
        for one in (called, said)
    )
    body, out = asked(ChatRequest("m", turns), "gemini-3-pro")
    parts = body["contents"][0]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["CsgB/2Zpcg==", None, None, "CiQBabc+/w=="]
    assert parts[3]["text"] == "Hello world" and out.lost == ()


def test_a_call_of_another_maker_is_said_to_be_one_where_the_model_asks() -> None:
    turn = Message("assistant", (), (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")), seals=("anthropic:x",))
    parts = asked(ChatRequest("m", (turn,)), "gemini-3-pro")[0]["contents"][0]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["context_engineering_is_the_way_to_go", None]
    old, out = asked(ChatRequest("m", (turn,)), "gemini-2.5-pro")
    assert not any("thoughtSignature" in part for part in old["contents"][0]["parts"])
    assert out.lost == ("messages.reasoning",)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("LANGUAGE", "content_filter"),
    ],
)
def test_each_reason_to_stop_has_its_own(word: str, reason: str) -> None:
    assert gathered(play(dialect, HELLO, ended(word, {"text": "x"}))).choices[0].reason == reason


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "NOT_YET_KNOWN"])
def test_a_model_that_failed_is_an_error_and_no_end(word: str) -> None:
    with pytest.raises(NetworkError, match="failed"):
        list(play(dialect, HELLO, ended(word)))


def test_a_blocked_prompt_is_a_filtered_answer() -> None:
    events = list(play(dialect, HELLO, recorded("gemini_blocked.sse")))
    assert events == [Finished(0, "content_filter"), Usage(9, 0)]


def test_several_choices_stream_side_by_side_and_each_must_end() -> None:
    request = msgspec.structs.replace(HELLO, sampling=Sampling(num_choices=2))
    first = chunk(candidates=[{"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}])
    second = chunk(candidates=[{"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "MAX_TOKENS"}])
    reply = gathered(play(dialect, request, first + second))
    assert [(choice.text, choice.reason) for choice in reply.choices] == [("a", "length"), ("b", "stop")]
    with pytest.raises(NetworkError):
        list(play(dialect, request, first))


def test_log_probabilities_come_with_their_text() -> None:
    one = {"token": "Hi", "tokenId": 5, "logProbability": -0.5}
    body = chunk(
        candidates=[
            {
                "content": {"parts": [{"text": "Hi"}]},
                "finishReason": "STOP",
                "logprobsResult": {"chosenCandidates": [one], "topCandidates": [{"candidates": [one]}]},
            }
        ]
    )
    event = next(play(dialect, HELLO, body))
    assert event == Delta(text="Hi", logprobs=(TokenLogprob("Hi", b"Hi", -0.5, (TopLogprob("Hi", b"Hi", -0.5),)),))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        recorded("gemini_text.sse").rpartition(b"data: ")[0],
        b"data: [1]\n\n",
        b"data: {]\n\n",
        chunk(candidates=[{"index": 1, "finishReason": "STOP"}]),
        chunk(candidates=[{"index": -1, "finishReason": "STOP"}]),
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_a_cut_or_malformed_answer_never_ends_well(body: bytes) -> None:
    with pytest.raises(NetworkError):
        list(play(dialect, HELLO, body))


def test_an_error_inside_a_stream_comes_after_what_was_said() -> None:
    events = play(dialect, HELLO, recorded("gemini_error.sse"))
    assert next(events) == Delta(text="Half")
    with pytest.raises(NetworkError, match="UNAVAILABLE"):
        next(events)


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (400, {"status": "INVALID_ARGUMENT"}, InputError),
        (400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, ProviderError),
        (403, {"status": "PERMISSION_DENIED"}, ProviderError),
        (404, {"status": "NOT_FOUND"}, NotFoundError),
        (429, {"status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "34.5s"}]}, BusyError),
        (500, {"status": "INTERNAL"}, NetworkError),
        (503, {"status": "UNAVAILABLE"}, NetworkError),
    ],
)
@pytest.mark.parametrize("is_listed", [False, True])
def test_errors_by_status_keep_the_word_and_not_the_sentence(
    status: int, told: Any, kind: type[CatenaError], is_listed: bool
) -> None:
    body: Any = {"error": {"code": status, "message": "secret", **told}}
    found = dialect.error(status, {}, msgspec.json.encode([body] if is_listed else body))
    assert type(found) is kind and "secret" not in str(found)
    if isinstance(found, BusyError):
        assert found.retry_after_s == 34.5


def test_a_prompt_that_is_too_long_is_told_with_both_numbers() -> None:
    message = "The input token count (1048600) exceeds the maximum number of tokens allowed (1048576)."
    body = {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    found = dialect.error(400, {}, msgspec.json.encode(body))
    assert isinstance(found, ContextError) and (found.needed, found.available) == (1048600, 1048576)


def test_texts_become_vectors_of_length_one() -> None:
    request = EmbedRequest("m", ("a", "b"), dimensions=2)
    out = dialect.embed(request, "gemini-embedding-001")
    assert out.path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert msgspec.json.decode(out.body)["requests"][1] == {
        "model": "models/gemini-embedding-001",
        "content": {"parts": [{"text": "b"}]},
        "outputDimensionality": 2,
    }
    body = b'{"embeddings":[{"values":[3,4]},{"values":[0,1]}],"usageMetadata":{"promptTokenCount":2}}'
    found = dialect.embedded(body, request)
    assert struct.unpack("<2f", found.vectors[0]) == pytest.approx((0.6, 0.8))
    assert (found.width, found.usage) == (2, Usage(2, 0))
    for wrong in (b'{"embeddings":[{"values":[3,4]}]}', b'{"embeddings":[{"values":[]},{"values":[]}]}', b"{}"):
        with pytest.raises(NetworkError):
            dialect.embedded(wrong, request)
    with pytest.raises(UnsupportedError):
        dialect.embed(EmbedRequest("m", ((1, 2),)), "m")


def test_prompts_are_counted_models_listed_and_the_key_shown() -> None:
    out = dialect.count(HELLO, "tunedModels/x y?z")
    assert out.path == "/v1beta/tunedModels/x%20y%3Fz:countTokens"
    assert dialect.counted(b'{"totalTokens": 31}') == 31
    assert dialect.listed(b'{"models":[{"name":"models/gemini-3-pro"},{"name":"tunedModels/t"}]}') == (
        "gemini-3-pro",
        "tunedModels/t",
    )
    assert dialect.headers("k") == {"x-goog-api-key": "k"} and dialect.headers(None) == {}
