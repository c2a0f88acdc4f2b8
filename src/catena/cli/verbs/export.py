"""`catena export`: lay a stored model out for another program, without a second copy where the disk allows."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from catena.cli.chain import open_store
from catena.store.elsewhere import PROGRAMS

HOW = {
    "copied": "copied: another file system, or one without links",
    "linked": "hard-linked, takes no new space",
    "cloned": "cloned, takes no new space",
    "present": "was there already",
}


@click.command(name="export")
@click.argument("name")
@click.option("--for", "program", required=True, type=click.Choice(PROGRAMS), help="Which program.")
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: the program's own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, program: str, into: Path | None, as_json: bool) -> None:
    """Lay model NAME out as another program keeps its models, so that both use one copy.

    A linked file is read-only for both; removing it there leaves it here, and the other way round.
    """
    with open_store() as store:
        laid = store.lay_out(name, program, into)
    if as_json:
        click.echo(msgspec.json.encode({"program": program, **msgspec.to_builtins(laid, enc_hook=str)}))
        return
    click.echo(f"{laid.name}  for {program}  in {laid.folder}  ({HOW[laid.how]})")
    for left in laid.leaves:
        click.echo(f"does not come along: {left}", err=True)
