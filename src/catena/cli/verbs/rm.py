"""`catena rm`: remove a model's name; its files go with the next `catena gc`."""

from __future__ import annotations

import click

from catena.cli.chain import open_store
from catena.core.units import bytes_text


@click.command(name="rm")
@click.argument("names", nargs=-1, required=True)
def command(names: tuple[str, ...]) -> None:
    """Remove models by name. Answers they gave can still be traced; their files go with `catena gc`."""
    with open_store() as store:
        for name in names:
            row = store.remove(name)
            click.echo(f"removed {row.name} ({bytes_text(row.size_bytes)}; `catena gc` frees the space)")
