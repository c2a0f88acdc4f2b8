"""Scores the scanner on a file of texts with known spans: characters, spans, documents that leak, and CPU time.

    python recipes/privacy_measure.py FILE.jsonl[.gz] [--only TYPE,TYPE] [--detectors NAME,NAME] [--by FIELD] [--show N]

Each line is `{"text": …, "spans": [[start, end, type, …], …]}` or spans as objects; other fields may group the rows.
P and R are over characters, whatever the type; F2 = 5PR / (4P + R) (van Rijsbergen). A span survives if less than 90 %
of its letters and digits are covered; a document leaks if any of its spans survives.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from catena.reach.privacy.scanning import Scanner, scanner
from catena.reach.privacy.spans import Span

COVERED = 0.9  # of the letters and digits of a span
Gold = list[tuple[int, int, str]]


class Score(Struct):
    """Counts of one group of texts; what they come to is in the properties."""

    texts: int = 0
    characters: int = 0
    with_spans: int = 0
    leaking: int = 0
    found: int = 0
    right: int = 0
    gold: int = 0
    spans: int = 0
    covered: int = 0
    found_spans: int = 0

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.gold if self.gold else 1.0

    @property
    def f2(self) -> float:
        p, r = self.precision, self.recall
        return 5 * p * r / (4 * p + r) if p + r else 0.0

    def line(self, name: str) -> str:
        """One row of the table."""
        span_recall = self.covered / self.spans if self.spans else 1.0
        leak = self.leaking / self.with_spans if self.with_spans else 0.0
        per_2000 = 2000 * self.found_spans / self.characters if self.characters else 0.0
        return (
            f"{name:28.28} {self.texts:6} {self.precision:6.3f} {self.recall:6.3f} {self.f2:6.3f} "
            f"{span_recall:7.3f} {leak:7.3f} {per_2000:9.2f}"
        )


HEAD = f"{'':28} {'texts':>6} {'P':>6} {'R':>6} {'F2':>6} {'span R':>7} {'leak':>7} {'per 2,000':>9}"


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file, gzipped or not."""
    with path.open("rb") as raw, gzip.open(raw, "rb") if path.suffix == ".gz" else raw as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def gold(row: dict[str, Any]) -> Gold:
    """The known spans of a row: start, end, type."""
    return [
        (span["start"], span["end"], span["type"]) if isinstance(span, dict) else (span[0], span[1], span[2])
        for span in row.get("spans", [])
    ]


def add(score: Score, text: str, known: Gold, found: list[Span]) -> list[tuple[int, int, str]]:
    """Count one text; returns the known spans that survive."""
    marked = bytearray(len(text))
    for span in found:
        marked[span.start : span.end] = b"\1" * (span.end - span.start)
    wanted = bytearray(len(text))
    missed: Gold = []
    for start, end, kind in known:
        wanted[start:end] = b"\1" * (end - start)
        places = [i for i in range(start, end) if text[i].isalnum()] or list(range(start, end))
        if sum(marked[i] for i in places) < COVERED * len(places):
            missed.append((start, end, kind))
    score.texts += 1
    score.characters += len(text)
    score.with_spans += bool(known)
    score.leaking += bool(missed)
    score.found += sum(marked)
    score.gold += sum(wanted)
    score.right += sum(a & b for a, b in zip(marked, wanted, strict=True))
    score.spans += len(known)
    score.covered += len(known) - len(missed)
    score.found_spans += len(found)
    return missed


class Measured(Struct):
    """What a run over a file gave: the score of all, of each group, and by type of known and of found spans."""

    whole: Score
    groups: dict[str, Score]
    by_known: dict[str, list[int]]
    by_found: dict[str, list[int]]
    missed: dict[str, list[str]]
    wrong: dict[str, list[str]]
    cpu_s: float


def measure(
    lines: Iterable[dict[str, Any]],
    scan: Callable[[str], list[Span]],
    *,
    only: frozenset[str] = frozenset(),
    by: str = "",
    show: int = 0,
) -> Measured:
    """Scan every row and count. `only` keeps known spans of those types (P then says little); `by` groups."""
    got = Measured(
        Score(),
        {},
        collections.defaultdict(lambda: [0, 0]),
        collections.defaultdict(lambda: [0, 0]),
        collections.defaultdict(list),
        collections.defaultdict(list),
        0.0,
    )
    for row in lines:
        text = row["text"]
        known = [span for span in gold(row) if not only or span[2] in only]
        began = time.process_time()
        found = scan(text)
        got.cpu_s += time.process_time() - began
        missed = add(got.whole, text, known, found)
        if by:
            add(got.groups.setdefault(str(row.get(by)), Score()), text, known, found)
        for start, end, kind in known:
            got.by_known[kind][0] += 1
            if (start, end, kind) in missed:
                got.by_known[kind][1] += 1
                if len(got.missed[kind]) < show:
                    got.missed[kind].append(_around(text, start, end))
        for span in found:
            is_right = any(start < span.end and span.start < end for start, end, _ in known)
            got.by_found[span.type][0] += 1
            got.by_found[span.type][1] += not is_right
            if not is_right and len(got.wrong[span.type]) < show:
                got.wrong[span.type].append(_around(text, span.start, span.end))
    return got


def _around(text: str, start: int, end: int) -> str:
    return f"{text[max(0, start - 25) : start]}⟦{text[start:end]}⟧{text[end : end + 15]}".replace("\n", "⏎")


def report(got: Measured, by: str = "") -> str:
    """The tables of a run as text."""
    out = [HEAD, got.whole.line("all")]
    out += [score.line(f"{by}={name}") for name, score in sorted(got.groups.items())]
    out.append("\nknown spans: number, survived, recall")
    for kind, (count, lost) in sorted(got.by_known.items(), key=lambda item: -item[1][1]):
        out.append(f"  {kind:28} {count:6} {lost:6} {1 - lost / count:6.3f}")
        out += [f"      {text}" for text in got.missed[kind]]
    out.append("\nfound spans: number, on nothing known")
    for kind, (count, wrong) in sorted(got.by_found.items(), key=lambda item: -item[1][1]):
        out.append(f"  {kind:28} {count:6} {wrong:6}")
        out += [f"      {text}" for text in got.wrong[kind]]
    texts, cpu_s = got.whole.texts, max(got.cpu_s, 1e-9)
    out.append(f"\n{texts / cpu_s:,.0f} documents, {got.whole.characters / cpu_s:,.0f} characters a CPU-second")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="count known spans of these types, by comma")
    parser.add_argument("--detectors", default="", help="run these detectors alone, by comma")
    parser.add_argument("--by", default="", help="a field to group by, e.g. doc_type")
    parser.add_argument("--show", type=int, default=0, help="examples to show a type, of missed and of wrong spans")
    parser.add_argument("--limit", type=int, default=0, help="stop after so many rows")
    asked = parser.parse_args()
    chosen = Scanner([name for name in asked.detectors.split(",") if name]) if asked.detectors else scanner()
    only = frozenset(name for name in asked.only.split(",") if name)
    lines = rows(asked.file)
    if asked.limit:
        lines = (row for _, row in zip(range(asked.limit), lines, strict=False))
    chosen.scan("Warm up: Jane Doe, 10 May 1990, jane@example.org. 张伟，13800138000。")
    print(report(measure(lines, chosen.scan, only=only, by=asked.by, show=asked.show), asked.by))


if __name__ == "__main__":
    main()
