"""`catena privacy restore`: turns stand-ins back, by the table that `redact` kept."""

from __future__ import annotations

from pathlib import Path

import click

from catena.cli.lines import read_lines, text_of, write_lines
from catena.cli.stand_in_tables import read_table


@click.command(name="restore")
@click.option("--jsonl", "source", required=True, help='Lines of {"id", "text"}; "-": standard input.')
@click.option("--out", "output", default="-", show_default=True, help="Where the lines go.")
@click.option("--table", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(source: str, output: str, table: Path) -> None:
    """Put back what `catena privacy redact --table` replaced, on the machine that replaced it."""
    stand_ins = read_table(table)
    with write_lines(output) as write:
        for row in read_lines(source):
            write({**row, "text": stand_ins.restore(text_of(row))})
