"""`catena privacy scan`: the private stretches of each text of a file."""

from __future__ import annotations

import click

from catena.cli.lines import read_lines, text_of, write_lines
from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.scanning import scanner
from catena.reach.privacy.spans import Span

ORDER = ("public", "internal", "personal", "secret")


@click.command(name="scan")
@click.option("--jsonl", "source", required=True, help='Lines of {"id", "text"}; "-": standard input.')
@click.option("--out", "output", default="-", show_default=True, help="Where the lines with spans go.")
def command(source: str, output: str) -> None:
    """Find private text: names, addresses, numbers, keys and more, in English and Chinese.

    Each line of the answer has `id`, `spans` of `start`, `end` (code points of the text), `type` and `score`, and the
    `label` of the text: public, internal, personal or secret. Nothing leaves this machine.
    """
    find = scanner()
    with write_lines(output) as write:
        for row in read_lines(source):
            spans = find.scan(text_of(row))
            write({"id": row.get("id"), "spans": [_plain(span) for span in spans], "label": label(spans)})


def label(spans: list[Span]) -> str:
    """The highest level of the kinds of `spans`."""
    return max((KINDS[span.type].level for span in spans), key=ORDER.index, default="public")


def _plain(span: Span) -> dict[str, object]:
    return {"start": span.start, "end": span.end, "type": span.type, "score": round(span.score, 3)}
