"""Writes docs/protocols/matrix.md from the promises that the tests hold every cell to.

Usage: python -m tests.matrix.page
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.matrix.cells import FEATURES, Cell, cell
from tests.matrix.doors import DOORS
from tests.matrix.ends import ENDS

PAGE = Path(__file__).parents[2] / "docs" / "protocols" / "matrix.md"
HEAD = """\
# The translation matrix

Made by `python -m tests.matrix.page` from the promises in `tests/matrix/cells.py`; a test keeps it current.

Every protocol that is served, over every dialect that a provider may speak (`kind` in `reach.providers`). Each cell is
a test: a request goes through a running gateway and its router to a provider on loopback. That provider speaks its
dialect as its maker's reference has it, refuses what that does not have, and says what it is told to; compared is what
a client of the protocol gets. ✓ passes. – cannot be, by the specification that the note names: the test shows that it
is refused, or named in `catena-warning`, and never dropped in silence.
"""
BESIDE = """
## Beside the nine

`tests/matrix/test_beside.py` shows that an answer at once says what the stream says, in every cell, and:

| what | passes over | refused with 400 over |
|---|---|---|
| vectors, through `/v1/embeddings` and `/api/embed` | OpenAI, Ollama, Gemini | Anthropic, Open Inference |
| counts, through `/v1/messages/count_tokens` | Anthropic, Gemini | OpenAI, Ollama, Open Inference |
| arrays, through `/v2/models/{model}/infer` | Open Inference | OpenAI, Anthropic, Ollama, Gemini |

`tests/matrix/test_behind.py` puts a gateway behind a gateway: what is said in the dialects of OpenAI, Anthropic, Ollama
and Open Inference is what our own protocols take.
"""


def page() -> str:
    """The whole page."""
    notes: dict[str, int] = {}
    parts = [HEAD, *_features(), _count()]
    for door, spoken in DOORS.items():
        parts.append(f"\n## {spoken.name}\n")
        parts.append(f"| | {' | '.join(end.name for end in ENDS.values())} |\n|---|{'---|' * len(ENDS)}")
        for feature in FEATURES:
            marks = [_mark(cell(door, end, feature), notes) for end in ENDS]
            parts.append(f"| {feature} | {' | '.join(marks)} |")
    parts += [BESIDE, "## Notes\n"]
    parts += [f"{number}. {note}" for note, number in notes.items()]
    return "\n".join(parts) + "\n"


def counts(doors: Iterable[str]) -> tuple[int, int]:
    """How many cells of these protocols pass, and how many cannot be."""
    reasons = [bool(cell(door, end, feature).reason) for door in doors for end in ENDS for feature in FEATURES]
    return reasons.count(False), reasons.count(True)


def _features() -> list[str]:
    return ["| feature | what passes |\n|---|---|", *[f"| {name} | {what} |" for name, what in FEATURES.items()]]


def _count() -> str:
    passing, impossible = counts(DOORS)
    size = f"{len(DOORS)} protocols × {len(ENDS)} dialects × {len(FEATURES)} features"
    return f"\nOf {passing + impossible} cells ({size}) {passing} pass and {impossible} cannot be."


def _mark(promise: Cell, notes: dict[str, int]) -> str:
    said = (promise.reason,) if promise.reason else promise.notes
    numbers = [str(notes.setdefault(note, len(notes) + 1)) for note in said]
    return " ".join(["–" if promise.reason else "✓", ", ".join(numbers)]).strip()


if __name__ == "__main__":
    PAGE.write_text(page())
