"""What programs made for vLLM or llama.cpp's server must find at /tokenize and /detokenize of a running `catena up`."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.clients.conftest import Desk, Gateway, requirement
from tests.clients.test_openai_requirements import EMBEDDER, MODEL

TOPIC = "tokens"
TEXT = "Grüße aus 東京 🤗"
CHAT = [{"role": "user", "content": "Say hello."}]


def post(gateway: Gateway, path: str, **body: Any) -> httpx2.Response:
    return httpx2.post(gateway.url + path, json=body, timeout=60)


@pytest.mark.model
@requirement("N01", TOPIC, "vLLM's shape: ids, their count, the context and, if wanted, their texts")
def test_as_vllm_does(gateway: Gateway) -> None:
    found = post(gateway, "/tokenize", model=MODEL, prompt="Hello world").json()
    assert found == {"count": 2, "max_model_len": found["max_model_len"], "tokens": [19556, 905], "token_strs": None}
    assert found["max_model_len"] >= 2048
    shown = post(gateway, "/tokenize", model=MODEL, prompt="Hello world", return_token_strs=True).json()
    assert shown["token_strs"] == ["Hello", " world"]


@pytest.mark.model
@requirement("N02", TOPIC, "llama.cpp's shape: ids, or with_pieces ids with texts, or bytes where a token is no text")
def test_as_llama_cpp_does(gateway: Gateway) -> None:
    assert post(gateway, "/tokenize", content="Hello world").json() == {"tokens": [19556, 905]}
    found = post(gateway, "/tokenize", content=TEXT, with_pieces=True).json()["tokens"]
    assert {type(one["piece"]) for one in found} == {str, list}
    data = b"".join(one["piece"].encode() if isinstance(one["piece"], str) else bytes(one["piece"]) for one in found)
    assert data.decode() == TEXT


@pytest.mark.model
@requirement("N03", TOPIC, "ids become the text again, under the names of both")
def test_there_and_back(gateway: Gateway) -> None:
    ids = post(gateway, "/v1/tokenize", model=MODEL, prompt=TEXT).json()["tokens"]
    for path in ("/detokenize", "/v1/detokenize"):
        assert post(gateway, path, model=MODEL, tokens=ids).json() == {"content": TEXT, "prompt": TEXT}


@pytest.mark.model
@requirement("N04", TOPIC, "the tokens of a conversation are as many as its answer's usage says")
def test_a_conversation(gateway: Gateway) -> None:
    found = post(gateway, "/tokenize", model=MODEL, messages=CHAT).json()
    with gateway.client() as client:
        answer = client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=1)  # type: ignore[arg-type]
    assert answer.usage is not None
    assert found["count"] == len(found["tokens"]) == answer.usage.prompt_tokens
    text = post(gateway, "/detokenize", model=MODEL, tokens=found["tokens"]).json()["prompt"]
    assert text.endswith("<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.model
@requirement("N05", TOPIC, "the ids continue as a prompt of /v1/completions as the text does")
def test_ids_are_a_prompt(gateway: Gateway) -> None:
    ids = post(gateway, "/tokenize", model=MODEL, prompt="One, two, three,").json()["tokens"]
    with gateway.client() as client:
        said = [
            client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, temperature=0).choices[0].text
            for prompt in ("One, two, three,", ids)
        ]
    assert said[0] == said[1]


@pytest.mark.model
@requirement("N06", TOPIC, "parse_special false reads the name of a special token as letters")
def test_names_of_special_tokens(gateway: Gateway) -> None:
    assert len(post(gateway, "/tokenize", content="<|im_end|>").json()["tokens"]) == 1
    assert len(post(gateway, "/tokenize", content="<|im_end|>", parse_special=False).json()["tokens"]) > 1


@pytest.mark.model
@requirement("N07", TOPIC, "an embedding model shows its tokens too, with or without those around a text")
def test_an_embedding_model(gateway: Gateway) -> None:
    found = post(gateway, "/tokenize", model=EMBEDDER, prompt="a cat", return_token_strs=True).json()
    assert found["token_strs"] == ["[CLS]", "a", "cat", "[SEP]"]
    bare = post(gateway, "/tokenize", model=EMBEDDER, prompt="a cat", add_special_tokens=False).json()
    assert bare["tokens"] == found["tokens"][1:-1]


@requirement("N08", TOPIC, "the call is on record with a receipt, and no token is counted as used")
def test_the_record(desk: Desk) -> None:
    answer = post(desk.gateway, "/tokenize", model="echo", prompt="one two")
    assert answer.json()["count"] == 2
    record = desk.gateway.get(f"/catena/v1/receipts/{answer.headers['catena-receipt']}")
    assert (record["opened"]["door"], record["opened"]["task"]) == ("openai.tokenize", "tokenise")
    assert (record["closed"]["outcome"], record["closed"]["usage"]) == ("complete", None)


BAD: dict[str, tuple[str, dict[str, Any], int, str | None]] = {
    "unknown field": ("/tokenize", {"prompt": "x", "promt": 1}, 400, "promt"),
    "no text": ("/tokenize", {}, 400, "prompt"),
    "both": ("/tokenize", {"prompt": "x", "messages": CHAT}, 400, "prompt"),
    "no generation prompt": ("/tokenize", {"messages": CHAT, "add_generation_prompt": False}, 400, None),
    "unknown model": ("/tokenize", {"prompt": "x", "model": "none"}, 404, "model"),
    "unknown id": ("/detokenize", {"tokens": [1 << 30]}, 400, "tokens"),
    "negative id": ("/detokenize", {"tokens": [-1]}, 400, "tokens"),
    "no ids": ("/detokenize", {}, 400, "tokens"),
}


@pytest.mark.parametrize("name", BAD)
@requirement("N09", TOPIC, "what is wrong is refused in the API's form, naming the parameter")
def test_what_is_refused(desk: Desk, name: str) -> None:
    path, body, status, param = BAD[name]
    answer = post(desk.gateway, path, **{"model": "echo", **body})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert param is None or answer.json()["error"]["param"] == param


@requirement("N10", TOPIC, "null is as good as left out")
def test_null(desk: Desk) -> None:
    body = {"model": "echo", "prompt": "one", "return_token_strs": None, "chat_template": None, "messages": None}
    assert post(desk.gateway, "/tokenize", **body).json()["count"] == 1
