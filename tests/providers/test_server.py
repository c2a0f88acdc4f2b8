"""The test provider does what it is told: it streams, refuses, cuts, waits, and sees a client go."""

from __future__ import annotations

import http.client
import time
from contextlib import closing
from typing import NamedTuple

import pytest
from tests.providers.answers import Answer, Call
from tests.providers.server import Provider, provider


class Got(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(made: Provider, body: bytes, path: str = "/chat/completions") -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=5)
    with closing(connection):
        connection.request("POST", made.speaker.base + path, body, {"content-type": "application/json"})
        with connection.getresponse() as answer:
            return Got(answer.status, answer.headers, answer.read())


BODY = b'{"model": "big", "messages": [], "stream": true}'


def test_it_streams_what_it_was_told_and_keeps_what_it_was_asked() -> None:
    with provider("openai") as made:
        made.say(Answer(text=("a", "b"), calls=(Call("c1", "f", ("{", "}")),)))
        text = ask(made, BODY).body.decode()
        assert [made.asked[0].path, made.asked[0].json["model"]] == ["/v1/chat/completions", "big"]
    assert text.endswith("data: [DONE]\n\n") and text.count("data: ") == 8


def test_answers_are_used_up_in_order_and_the_last_one_stays() -> None:
    with provider("openai") as made:
        made.say(Answer(status=429, headers={"retry-after": "3"}), Answer())
        first = ask(made, BODY)
        assert (first.status, first.headers["retry-after"]) == (429, "3")
        assert [ask(made, BODY).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("cut", ["reset", "close"])
def test_a_cut_answer_is_no_whole_body(cut: str) -> None:
    with provider("openai") as made:
        made.say(Answer(cut_after=2, cut=cut))  # type: ignore[arg-type]
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            ask(made, BODY)


def test_a_client_that_goes_is_seen() -> None:
    with provider("ollama") as made:
        made.say(Answer(text=("x",) * 1000, between_s=0.01))
        connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=5)
        connection.request("POST", "/api/chat", BODY)
        answer = connection.getresponse()
        answer.readline()
        answer.close()
        connection.close()
        assert made.gone.wait(5) and made.num_sent < 100


def test_it_can_make_a_client_wait() -> None:
    with provider("openai") as made:
        made.say(Answer(first_s=0.2))
        began = time.monotonic()
        assert ask(made, BODY).status == 200
        assert time.monotonic() - began >= 0.2


def test_fields_that_the_reference_does_not_have_are_refused() -> None:
    with provider("openai") as made:
        assert ask(made, b'{"model": "big", "messages": [], "top_k": 3}').status == 400
    with provider("ollama") as made:
        assert ask(made, b'{"model": "big", "options": {"colour": 3}}', "/api/chat").status == 400
