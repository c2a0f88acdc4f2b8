"""Names of people, organisations and jobs: forms, contexts, harmless text, hostile text, time."""

from __future__ import annotations

import time

import pytest

from catena.reach.privacy.detectors import names
from catena.reach.privacy.echoes import latin
from catena.reach.privacy.judging.tagger import FIELD_BITS, LABELS, SCALE, Tagger, pack, tagger
from catena.reach.privacy.judging.words import Words, lexicon, shape
from catena.reach.privacy.spans import Span, compose


def found(text: str, kind: str = "person") -> list[str]:
    spans = compose(text, names.find(text))
    return [text[span.start : span.end] for span in spans if span.type == kind]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My name is Rosalind Achterberg and I need help.", "Rosalind Achterberg"),
        ("PATIENT: WHITCOMBE, DARRELL\nDOB: 1971-02-03", "WHITCOMBE, DARRELL"),
        ('{"name": "Priya Raghunathan", "active": true}', "Priya Raghunathan"),
        ("Dear Mrs. Castellano,\n\nthank you.", "Mrs. Castellano"),
        ("// Author: Tomasz Wierzbicki <tw@example.com>", "Tomasz Wierzbicki"),
        ("[2024-03-04T05:06:07Z] Margaret Fitzgerald logged in from 10.0.0.1", "Margaret Fitzgerald"),
        ("Attorney Keith O'Donnell objected.", "Keith O'Donnell"),
        ("The invoice was signed by Jean-Pierre Lefebvre.", "Jean-Pierre Lefebvre"),
    ],
)
def test_a_person_is_one_span(text: str, name: str) -> None:
    assert name in found(text)


def test_organisations_and_jobs_of_a_person() -> None:
    text = "Helen Marsh works as a Senior Data Analyst at Brightwater Logistics Inc. in Leeds."
    assert "Helen Marsh" in found(text)
    assert any("Brightwater Logistics" in name for name in found(text, "organisation"))
    assert any("Data Analyst" in name for name in found(text, "job_title"))


@pytest.mark.parametrize(
    "text",
    [
        "Install Docker and run Jenkins on Ubuntu. Django and Celery need Redis.",
        "The train from Paris to Berlin leaves on Monday in May. Will it be late? Mark the date.",
        "Error: Connection refused. Check the Settings page and restart the Server.",
        "import numpy as np\nclass BaseHandler(Handler):\n    pass\n",
    ],
)
def test_harmless_text_holds_no_person(text: str) -> None:
    assert found(text) == []


def test_a_name_found_once_is_found_again() -> None:
    text = "Rosalind Achterberg called. achterberg wants R. Achterberg's file; ROSALIND agreed. Will it rain?"
    spans = list(latin.find(text, [Span(0, 19, "person", 0.99)]))
    again = {text[span.start : span.end] for span in spans}
    assert {"achterberg", "R. Achterberg", "ROSALIND"} <= again
    assert all("Will" not in piece for piece in again)
    assert all(span.score < 0.99 for span in spans)


def test_a_common_word_is_no_echo_in_lower_case() -> None:
    text = "Bill Page wrote. The page has a bill, and so does every page."
    assert [text[s.start : s.end] for s in latin.find(text[16:], [Span(0, 0, "person", 0.9)])] == []
    assert all(s.end <= 9 for s in latin.find(text, [Span(0, 9, "person", 0.9)]))


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "\u200b", "\ud83d", "....", "\u00df\u0130\u01c5", "A", "J.", "\x00Ann\x00"]
)
def test_odd_texts_have_spans_inside_them(text: str) -> None:
    assert all(0 <= span.start < span.end <= len(text) for span in names.find(text))


def test_words_are_where_they_are_said_to_be() -> None:
    text = "Zo\u00eb \u2014 Al-Sayed, O\u2019Brien's 3rd e-mail\u2026"
    words = Words(text, {})
    assert [text[a:b] for a, b in zip(words.starts, words.ends, strict=True)] == words.words
    assert [shape(word) for word in ("John", "JOHN", "J", "john", "McKay", "iOS", "12", "a1", "\ud64d")] == [
        "Xx", "XX", "X", "x", "XxX", "xX", "9", "X9", "o",
    ]  # fmt: skip


def test_packed_weights_add_like_weights() -> None:
    rows = [[-4000, 4000, -1, 0, 1, 7, -7, 123, -4000]] * 26
    total = sum(pack(row) for row in rows) + sum(1 << (FIELD_BITS * (place + 1) - 1) for place in range(len(LABELS)))
    mask = (1 << FIELD_BITS) - 1
    fields = [((total >> (FIELD_BITS * place)) & mask) - (1 << (FIELD_BITS - 1)) for place in range(len(LABELS))]
    assert fields == [26 * weight for weight in rows[0]]
    assert 26 * 4 * SCALE < 1 << (FIELD_BITS - 1)


def test_a_model_that_always_says_no_finds_nothing() -> None:
    reader = Tagger({"b": pack([9000] + [0] * 8)}, lexicon())
    assert reader.find(reader.words("Rosalind Achterberg")) == []


@pytest.mark.parametrize("piece", ["Ann Lee, ", "A", "O'", "mr ", "a: ", "\u674e ", "J. ", "Will may mark "])
def test_time_grows_with_length_only(piece: str) -> None:
    tagger()

    def cost(length: int) -> float:
        text = (piece * length)[:length]
        spans: list[Span] = []
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            spans = list(names.find(text))
            list(latin.find(text, spans))
            best = min(best, time.process_time() - started)
        return best

    assert cost(80_000) < 14 * cost(10_000) + 0.05
