"""Writes legal, clinical, bank and staff documents with every private span known, from two families of templates.

    python recipes/privacy_documents.py {tune,report} [--number N] [--seed N] [--out FILE.jsonl]

Rules are tuned on documents of `tune`, figures are of `report`: no template, and no list of conditions, medicines or
attributes, is in both. Lines are `{"id", "domain", "lang", "doc_type", "text", "spans": [[start, end, type, class]]}`.
In a template `{type.role}` is a value of that type; the same role is the same person or number in one document.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import privacy_documents_values as values

PLACEHOLDER = re.compile(r"\{([a-z_]+)\.?([a-z0-9]*)\}")
# Without spans of their own: a court, a county or a state does not single anybody out.
FILLERS = frozenset({"court", "court_zh", "place"})
QUASI = frozenset(
    ["organisation", "job_title", "date", "age", "address", "postcode", "gender", "ethnicity", "nationality", "amount"]
)
SENSITIVE = frozenset(
    [
        "health_condition",
        "medication",
        "procedure",
        "blood_type",
        "religion",
        "orientation",
        "politics",
        "criminal_record",
    ]
)
FAMILIES = ("tune", "report")


def templates(family: str) -> list[tuple[str, str, str, str]]:
    """Domain, language, kind and body of each template of a family."""
    content = Path(__file__).with_name(f"privacy_documents_{family}.txt").read_text(encoding="utf-8")
    found = []
    for part in content.split("\n=== "):
        head, _, body = part.removeprefix("=== ").partition("\n")
        where, _, kind = head.partition(" ")
        domain, _, language = where.partition(".")
        found.append((domain, language, kind, body.rstrip("\n") + "\n"))
    return found


def document(body: str, source: values.Source) -> tuple[str, list[list[object]]]:
    """A filled template and its spans."""
    parts: list[str] = []
    spans: list[list[object]] = []
    end = at = 0
    for match in PLACEHOLDER.finditer(body):
        slot, role = match.groups()
        value = source.value(slot, role)
        kind = {"first": "person", "last": "person"}.get(slot, slot.removesuffix("_uk")).removesuffix("_zh")
        parts += [body[end : match.start()], value]
        at += match.start() - end
        if slot not in FILLERS:
            rank = "quasi_identifier" if kind in QUASI else "direct_identifier"
            spans.append([at, at + len(value), kind, "sensitive_attribute" if kind in SENSITIVE else rank])
        at += len(value)
        end = match.end()
    return "".join([*parts, body[end:]]), spans


def documents(family: str, number: int, seed: int) -> Iterator[dict[str, object]]:
    """`number` documents in turn over all templates of a family; the same seed gives the same documents."""
    chance = random.Random(f"{family} {seed}")
    makers = values.makers(seed, family)
    known = templates(family)
    for index in range(number):
        domain, language, kind, body = known[index % len(known)]
        text, spans = document(body, values.Source(chance, makers, family))
        yield {
            "id": f"{family}-{index}",
            "domain": domain,
            "lang": language,
            "doc_type": f"{domain} {kind}",
            "text": text,
            "spans": spans,
        }


def main() -> None:
    """Write the documents asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in documents(args.family, args.number, args.seed))
    if args.out is None:
        sys.stdout.writelines(lines)
    else:
        with args.out.open("w", encoding="utf-8") as out:
            out.writelines(lines)


if __name__ == "__main__":
    main()
