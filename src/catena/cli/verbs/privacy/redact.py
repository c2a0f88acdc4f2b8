"""`catena privacy redact`: texts with stand-ins for what is private, and a sealed table that turns them back."""

from __future__ import annotations

from pathlib import Path

import click

from catena.cli.lines import read_lines, text_of, write_lines
from catena.cli.stand_in_tables import new_table, write_table
from catena.core.errors import InputError
from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.pseudonyms.table import FIXED
from catena.reach.privacy.scanning import scanner


@click.command(name="redact")
@click.option("--jsonl", "source", required=True, help='Lines of {"id", "text"}; "-": standard input.')
@click.option("--out", "output", default="-", show_default=True, help="Where the lines go.")
@click.option("--table", type=click.Path(dir_okay=False, path_type=Path), help="Keep the way back in this new file.")
def command(source: str, output: str, table: Path | None) -> None:
    """Replace names, addresses and numbers by stand-ins of the same kind and shape, the same in every line.

    Keys, health and traits, which nothing can stand for, become [KIND]. Without --table there is no way back; with it,
    the table is sealed with this machine's key, and `catena privacy restore` reads it.
    """
    if table is not None and table.exists():
        raise InputError(f"{table} exists", hint="name a new file; a table is never overwritten")
    find, stand_ins, removed = scanner(), new_table(), 0
    with write_lines(output) as write:
        for row in read_lines(source):
            text = text_of(row)
            spans = find.scan(text)
            for span in reversed([span for span in spans if KINDS[span.type].group in FIXED]):
                text = f"{text[: span.start]}[{span.type.upper()}]{text[span.end :]}"
                removed += 1
            spans = [span for span in find.scan(text) if KINDS[span.type].group not in FIXED]
            stand_ins.learn(text, spans, text)
            write({**row, "text": stand_ins.replace(text, spans)})
    if table is not None:
        write_table(table, stand_ins)
    if removed:
        click.echo(f"{removed} passages were removed for good: nothing can stand for them", err=True)
