"""Names of people, organisations, jobs and places that the tagger of words tells from their surroundings."""

from __future__ import annotations

from collections.abc import Iterable

from catena.reach.privacy.judging.tagger import Found, tagger
from catena.reach.privacy.judging.words import Words
from catena.reach.privacy.spans import Span

KINDS = {"PER": "person", "ORG": "organisation", "JOB": "job_title", "PLC": "place"}
_TITLES = """mr mrs ms miss mx dr prof professor judge justice officer detective herr frau monsieur madame mme mlle
señor señora sr sra srta signor signora don doña sir lady lord rev reverend sgt capt lt"""
HONORIFICS = frozenset(_TITLES.split())
SCHOOLS = frozenset({"university", "college", "school", "academy", "institute", "polytechnic", "seminary"})


def find(text: str) -> Iterable[Span]:
    """Spans of kinds person, organisation, school, job_title and place; scores are the model's probabilities."""
    reader = tagger()
    words = reader.words(text)
    for found in reader.find(words):
        yield _span(words, found)


def _span(words: Words, found: Found) -> Span:
    kind = KINDS[found.kind]
    first, last = found.first, found.last
    if kind == "organisation" and not SCHOOLS.isdisjoint(words.lower[first : last + 1]):
        kind = "school"
    # A surname alone is known by its honorific: together they are the name. A full name stands without it.
    is_single = kind == "person" and first == last and first > 0
    if is_single and words.lower[first - 1] in HONORIFICS and words.gaps[first] in (" ", ". ", "."):
        first -= words.shapes[first - 1][0] == "X"
    return Span(words.starts[first], words.ends[last], kind, found.probability)
