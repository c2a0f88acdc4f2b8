"""What the official OpenAI client must find at a running `catena up` beside chat: models, completions, embeddings."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import httpx2
import openai
import pytest
from tests.clients.conftest import Gateway, requirement
from tests.clients.test_openai_requirements import ASK, EMBEDDER, MODEL

pytestmark = pytest.mark.model
COMPLETION, EMBEDDING, MODELS = "completions", "embeddings", "models"


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


@requirement("M04", MODELS, "`models.retrieve` shows a model by its alias, which the list names too")
def test_a_model_by_alias(client: openai.OpenAI) -> None:
    assert client.models.retrieve("default").id == MODEL
    listed = {model.id: model.model_extra["catena"]["aliases"] for model in client.models.list()}  # type: ignore[index]
    assert {MODEL, EMBEDDER, "echo"} <= set(listed)
    assert {name: aliases for name, aliases in listed.items() if aliases} == {MODEL: ["default"]}


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


@requirement("T08", COMPLETION, "`logprobs` come in a stream with their tokens")
def test_completion_logprobs_stream(client: openai.OpenAI) -> None:
    ask: Any = {"model": MODEL, "prompt": "One, two,", "max_tokens": 4, "temperature": 0, "logprobs": 1}
    tokens: list[str] = []
    said = ""
    for chunk in client.completions.create(**ask, stream=True):
        said += chunk.choices[0].text
        if chunk.choices[0].logprobs:
            tokens += chunk.choices[0].logprobs.tokens or []
    assert "".join(tokens) == said != ""


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
