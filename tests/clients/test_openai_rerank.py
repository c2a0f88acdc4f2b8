"""What a client of Cohere's or Jina's rerank must find at a running `catena up` with a real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.clients.conftest import Gateway, requirement, up
from tests.conftest import copied, pulled

pytestmark = pytest.mark.model
MODEL = "ms-marco-minilm-l12-v2"
RERANK = "rerank"
QUERY = "What is the capital of France?"
DOCUMENTS = ["Bananas are yellow.", "Paris is the capital of France.", "France lies in Europe."]


@pytest.fixture(scope="module")
def judge(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a reranking model."""
    pulled(models_home, MODEL)
    with up(copied(models_home, tmp_path_factory.mktemp("rerank") / "home")) as running:
        yield running


def post(gateway: Gateway, path: str = "/v1/rerank", **change: Any) -> httpx2.Response:
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, **change}
    return httpx2.post(gateway.url + path, json=body, timeout=60)


def results(gateway: Gateway, path: str = "/v1/rerank", **change: Any) -> list[dict[str, Any]]:
    return post(gateway, path, **change).raise_for_status().json()["results"]


def error(gateway: Gateway, **change: Any) -> dict[str, Any]:
    answer = post(gateway, **change)
    assert answer.status_code == 400
    return answer.json()["error"]


@requirement("K01", RERANK, "results come best first, each with its place in the request and a score from 0 to 1")
def test_best_first(judge: Gateway) -> None:
    found = results(judge)
    assert found[0]["index"] == 1
    scores = [each["relevance_score"] for each in found]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    assert scores[0] > 0.9 > 0.1 > scores[-1]


@requirement("K02", RERANK, "Jina's shape: model, usage.total_tokens, and each document as an object with its text")
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_the_shape_of_jina(judge: Gateway, path: str) -> None:
    answer = post(judge, path).json()
    assert answer["model"] == MODEL
    assert answer["usage"]["total_tokens"] > 20
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[1]}


@requirement("K03", RERANK, "Cohere's version 2: id, results without documents, meta with its version")
def test_the_shape_of_cohere(judge: Gateway) -> None:
    answer = post(judge, "/v2/rerank").json()
    assert answer["id"] and answer["meta"]["api_version"]["version"] == "2"
    assert {frozenset(each) for each in answer["results"]} == {frozenset({"index", "relevance_score"})}


@requirement("K04", RERANK, "top_n gives the best so many, also when it is more than there are")
def test_top_n(judge: Gateway) -> None:
    assert [each["index"] for each in results(judge, top_n=1)] == [1]
    assert len(results(judge, top_n=9)) == 3


@requirement("K05", RERANK, "return_documents is honoured at each address")
def test_return_documents(judge: Gateway) -> None:
    assert "document" not in results(judge, return_documents=False)[0]
    assert results(judge, "/v2/rerank", return_documents=True)[0]["document"]["text"] == DOCUMENTS[1]


@requirement("K06", RERANK, "documents may be objects with a text; an object of another kind is refused")
def test_objects(judge: Gateway) -> None:
    objects = [{"text": text} for text in DOCUMENTS]
    assert results(judge, documents=objects) == results(judge)
    assert error(judge, documents=[{"image": "x"}])["param"] == "documents[0]"


@requirement("K07", RERANK, "a document that is too long is read in part, and named in catena-warning")
def test_cut_documents(judge: Gateway) -> None:
    answer = post(judge, documents=[DOCUMENTS[1], "Paris is the capital of France. " + "More. " * 600])
    assert "1 of the documents were read only in part" in answer.headers["catena-warning"]
    assert answer.headers["catena-warning"].endswith(": 1")
    assert answer.json()["results"][1]["relevance_score"] > 0.5
    assert answer.json()["usage"]["total_tokens"] < 512 + 30


@requirement("K08", RERANK, "with truncation false, a document that is too long is an error with both numbers")
def test_no_truncation(judge: Gateway) -> None:
    found = error(judge, documents=["word " * 600], truncation=False)
    assert found["code"] == "context_length_exceeded"
    assert "512" in found["message"]


@requirement("K09", RERANK, "a query that leaves no room for a document is an error")
def test_long_queries(judge: Gateway) -> None:
    assert error(judge, query="word " * 600)["code"] == "context_length_exceeded"


@requirement("K10", RERANK, "text of another script is warned of, as the model is for English")
def test_other_scripts(judge: Gateway) -> None:
    answer = post(judge, query="法国的首都是什么?", documents=["巴黎是法国的首都。"])
    assert "is for English" in answer.headers["catena-warning"]
    assert "catena-warning" not in post(judge, documents=["Café à Paris"]).headers


@requirement("K11", RERANK, "empty queries, documents or lists, and top_n below 1, are refused by name")
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": " "}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": ["a"] * 1001}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"top_k": 3}, "top_k"),
    ],
)
def test_refusals(judge: Gateway, change: Any, param: str) -> None:
    assert error(judge, **change)["param"] == param


@requirement("K12", RERANK, "an answer carries a receipt, whose record has the tokens that were read")
def test_receipts(judge: Gateway) -> None:
    answer = post(judge)
    record = judge.record(answer.headers["catena-receipt"])
    assert record["outcome"] == "complete"
    assert record["usage"]["prompt_tokens"] == answer.json()["usage"]["total_tokens"]


@requirement("K13", RERANK, "a model that does not rerank is refused; one that is not here is a 404")
def test_other_models(judge: Gateway) -> None:
    assert "does not rerank" in error(judge, model="bge-small-en-v1.5")["message"]
    assert post(judge, model="rerank-v3.5").json()["error"]["code"] == "model_not_found"
