"""What the official Ollama client must find at a running `catena up`: prompts and vectors."""

from __future__ import annotations

import json
import math
from typing import Any

import ollama
import pytest
from tests.clients.conftest import Gateway, requirement
from tests.clients.ollama.conftest import ASK, EMBEDDER, EXACT, MODEL, PROMPT, SCHEMA, post

pytestmark = pytest.mark.model
GENERATE, EMBED = "POST /api/generate", "POST /api/embed"


@requirement("G01", GENERATE, "a prompt is answered as a user's message is, at once")
def test_a_prompt(client: ollama.Client) -> None:
    answer = client.generate(**PROMPT)
    assert answer.response == client.chat(**ASK).message.content
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "length", 12)


@requirement("G02", GENERATE, "its stream says the same, and ends with counts")
def test_a_prompt_as_a_stream(client: ollama.Client) -> None:
    *parts, last = list(client.generate(**PROMPT, stream=True))
    assert "".join(part.response or "" for part in parts) == client.generate(**PROMPT).response
    assert (last.done, last.response, last.eval_count) == (True, "", 12)


@requirement("G03", GENERATE, "`system` is honoured as a system message")
def test_system(client: ollama.Client) -> None:
    system = {"role": "system", "content": "Answer in one word."}
    expected = client.chat(**{**ASK, "messages": [system, *ASK["messages"]]}).message.content
    assert client.generate(**PROMPT, system=system["content"]).response == expected


@requirement("G04", GENERATE, "`raw` continues the prompt without a template")
def test_raw(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "One, two, three,", raw=True, options=EXACT)
    assert "four" in (answer.response or "")
    assert (answer.prompt_eval_count or 99) < 10
    with pytest.raises(ollama.ResponseError, match="no place for system"):
        client.generate(MODEL, "One,", raw=True, system="x")


@requirement("G05", GENERATE, "`format` with a schema gives JSON that follows it")
def test_a_schema(client: ollama.Client) -> None:
    answer = client.generate(**{**PROMPT, "options": {**EXACT, "num_predict": 60}}, format=SCHEMA)
    assert json.loads(answer.response or "")["colour"] in ("red", "green")


@requirement("G06", GENERATE, "`logprobs` join to the response")
def test_logprobs(client: ollama.Client) -> None:
    answer = client.generate(**PROMPT, logprobs=True, top_logprobs=1)
    assert "".join(one.token for one in answer.logprobs or []) == answer.response


@requirement("G07", GENERATE, "`suffix` is refused by a model that cannot fill a gap")
def test_suffix(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="suffix") as caught:
        client.generate(MODEL, "def f(", suffix="return x")
    assert caught.value.status_code == 400


@requirement("G08", GENERATE, "`template` and `context` are refused with what to do instead")
def test_template_and_context(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="api/create"):
        client.generate(**PROMPT, template="{{ .Prompt }}")
    with pytest.raises(ollama.ResponseError, match="api/chat"):
        client.generate(**PROMPT, context=[1, 2, 3])


@requirement("G09", GENERATE, "pictures are made by no model here: `width` is refused")
def test_making_pictures(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no model here makes pictures"):
        client.generate(**PROMPT, width=64)


@requirement("G10", GENERATE, "an answer has a receipt, recorded at the door `ollama.generate`")
def test_a_receipt(gateway: Gateway) -> None:
    receipt = post(gateway, "generate", {**PROMPT, "stream": False}).headers["catena-receipt"]
    opened = gateway.get(f"/catena/v1/receipts/{receipt}")["opened"]
    assert (opened["door"], opened["decision"]["outcome"]) == ("ollama.generate", "local")


def vectors(client: ollama.Client, *words: str) -> list[Any]:
    return list(client.embed(EMBEDDER, list(words)).embeddings)


@requirement("E01", EMBED, "a text gives one vector of 384 numbers and length 1")
def test_one_text(client: ollama.Client) -> None:
    answer = client.embed(EMBEDDER, "a cat")
    (vector,) = answer.embeddings
    assert len(vector) == 384
    assert math.sqrt(sum(x * x for x in vector)) == pytest.approx(1, abs=1e-3)
    assert answer.model == EMBEDDER


@requirement("E02", EMBED, "a list comes back in its order, and what means the same lies nearer")
def test_a_list(client: ollama.Client) -> None:
    cat, kitten, engine = vectors(client, "a cat", "a kitten", "a rocket engine")
    assert cat == pytest.approx(vectors(client, "a cat")[0], abs=1e-3)
    assert sum(a * b for a, b in zip(cat, kitten, strict=True)) > sum(a * b for a, b in zip(cat, engine, strict=True))


@requirement("E03", EMBED, "`prompt_eval_count` counts the tokens, and times are given")
def test_counts(client: ollama.Client) -> None:
    short, long = client.embed(EMBEDDER, "a cat"), client.embed(EMBEDDER, "a cat on a mat in a flat")
    assert (long.prompt_eval_count or 0) > (short.prompt_eval_count or 0) >= 2
    assert short.total_duration
    assert short.load_duration is not None


@requirement("E04", EMBED, "`dimensions` is honoured at the model's width and refused at any other")
def test_dimensions(client: ollama.Client) -> None:
    assert len(client.embed(EMBEDDER, "a", dimensions=384).embeddings[0]) == 384
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed(EMBEDDER, "a", dimensions=100)
    assert caught.value.status_code == 400


@requirement("E05", EMBED, "too long an input is refused with both numbers; `truncate` is named as ignored")
def test_truncate(client: ollama.Client, gateway: Gateway) -> None:
    with pytest.raises(ollama.ResponseError, match="context holds 512"):
        client.embed(EMBEDDER, "word " * 600)
    response = post(gateway, "embed", {"model": EMBEDDER, "input": "a", "truncate": True})
    assert "truncate ignored" in response.headers["catena-warning"]


@requirement("E06", EMBED, "the older /api/embeddings gives the same vector")
def test_the_older_route(client: ollama.Client) -> None:
    assert client.embeddings(EMBEDDER, "a cat").embedding == pytest.approx(vectors(client, "a cat")[0], abs=1e-6)


@requirement("E07", EMBED, "an empty input loads the model and gives no vectors; an embedding has a receipt")
def test_an_empty_input(client: ollama.Client, gateway: Gateway) -> None:
    assert list(client.embed(EMBEDDER, []).embeddings) == []
    response = post(gateway, "embed", {"model": EMBEDDER, "input": "a"})
    assert gateway.record(response.headers["catena-receipt"])["outcome"] == "complete"
