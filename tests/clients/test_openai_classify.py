"""What a client of vLLM's classify must find at a running `catena up`, with small made models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests import classifiers
from tests.clients.conftest import Gateway, requirement, up
from tests.conftest import catena

CLASSIFY = "classify"


@pytest.fixture(scope="module")
def labeller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a classifier of texts and one of tokens."""
    folder = tmp_path_factory.mktemp("classify")
    for name, graph, config in (
        ("moods", classifiers.moods(), classifiers.MOODS),
        ("names", classifiers.names(), classifiers.NAMES),
    ):
        pulled = catena(folder / "home", "pull", str(classifiers.write(folder / name, graph, config)))
        assert pulled.returncode == 0, pulled.stderr
    with up(folder / "home") as running:
        yield running


def post(gateway: Gateway, path: str = "/v1/classify", **change: Any) -> httpx2.Response:
    return httpx2.post(gateway.url + path, json={"model": "moods", "input": ["good", "bad"], **change}, timeout=60)


@requirement("L01", CLASSIFY, "each text has its likeliest label and the probabilities of all, in the shape of vLLM")
@pytest.mark.parametrize("path", ["/v1/classify", "/classify"])
def test_texts(labeller: Gateway, path: str) -> None:
    answer = post(labeller, path).raise_for_status().json()
    assert (answer["object"], answer["model"]) == ("list", "moods")
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}
    assert [(one["index"], one["label"], one["num_classes"]) for one in answer["data"]] == [
        (0, "POSITIVE", 2),
        (1, "NEGATIVE", 2),
    ]
    assert all(sum(one["probs"]) == pytest.approx(1) for one in answer["data"])
    assert post(labeller, path, input="good").json()["data"][0]["label"] == "POSITIVE"


@requirement("L02", CLASSIFY, "a model of tokens gives spans: label, place in characters, probability, text")
def test_tokens(labeller: Gateway) -> None:
    text = "in London ada lovelace in paris"
    (found,) = post(labeller, model="names", input=text).raise_for_status().json()["data"]
    assert [(one["label"], one["text"]) for one in found["spans"]] == [("PER", "ada lovelace"), ("LOC", "paris")]
    assert all(text[one["start"] : one["end"]] == one["text"] and one["prob"] > 0.9 for one in found["spans"])


@requirement("L03", CLASSIFY, "a text that is too long is an error with both numbers, and is never cut")
def test_long_texts(labeller: Gateway) -> None:
    error = post(labeller, input="good " * 20).json()["error"]
    assert error["code"] == "context_length_exceeded" and "22" in error["message"] and "12" in error["message"]
    assert post(labeller, truncate_prompt_tokens=8).json()["error"]["param"] == "truncate_prompt_tokens"


@requirement("L04", CLASSIFY, "empty inputs, token ids, unknown fields and models of other tasks are refused by name")
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["good", ""]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"inputs": "x"}, "inputs"),
        ({"model": "nosuch"}, "model"),
    ],
)
def test_refusals(labeller: Gateway, change: Any, param: str) -> None:
    assert post(labeller, **change).json()["error"]["param"] == param


@requirement("L05", CLASSIFY, "an answer carries a receipt, whose record has the tokens that were read")
def test_receipts(labeller: Gateway) -> None:
    record = labeller.record(post(labeller).headers["catena-receipt"])
    assert record["outcome"] == "complete" and record["usage"]["prompt_tokens"] == 6
