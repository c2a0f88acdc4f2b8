"""`catena route score`: how much each prompt of a file needs the strong model."""

from __future__ import annotations

import click

from catena.cli.lines import read_lines, text_of, write_lines
from catena.reach.routing.difficulty import Difficulty


@click.command(name="score")
@click.argument("file")
@click.argument("test")
@click.option("-o", "--output", default="-", show_default=True, help="Where the lines with scores go.")
def command(file: str, test: str, output: str) -> None:
    """Score the prompts of TEST, lines of {"id", "prompt"}, by FILE of `catena route fit`.

    A higher score means that the strong model is needed more. A line without `id` gets its number, from 0.
    """
    difficulty = Difficulty.load(file)
    with write_lines(output) as write:
        for number, row in enumerate(read_lines(test)):
            write({"id": row.get("id", number), "score": round(difficulty.score(text_of(row, "prompt")), 6)})
