"""`catena gc`: free the space of files that no model needs."""

from __future__ import annotations

import click
import msgspec

from catena.cli.chain import open_store
from catena.core.units import bytes_text


@click.command(name="gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(dry_run: bool, as_json: bool) -> None:
    """Remove files that no named model needs, and what interrupted pulls left behind."""
    with open_store() as store:
        collected = store.collect(is_dry=dry_run)
    if as_json:
        click.echo(msgspec.json.encode(collected))
        return
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {bytes_text(collected.num_bytes)} in {collected.num_files} files")
