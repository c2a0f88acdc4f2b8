"""`catena models`: the models on this machine."""

from __future__ import annotations

import click
import msgspec

from catena.cli.chain import open_store
from catena.core import config
from catena.core.clock import iso
from catena.core.units import bytes_text


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the models on this machine."""
    default = config.load(config.home()).settings.reach.default_model
    with open_store() as store:
        rows = store.models()
    if as_json:
        shown = [{**msgspec.to_builtins(row), "aliases": ["default"] if row.name == default else []} for row in rows]
        click.echo(msgspec.json.encode(shown))
        return
    if not rows:
        click.echo("no models yet (hint: `catena pull smollm2-135m-instruct`)", err=True)
        return
    width = max(len(row.name) for row in rows) + 2
    for row in rows:
        mark = "*" if row.name == default else " "
        facts = (row.manifest.task, row.manifest.format, bytes_text(row.size_bytes), iso(row.added_at_ns)[:10])
        task, form, size, day = facts
        click.echo(f"{mark} {row.name:<{width}}{task:<11}{form:<6}{size:>9}  {day}  {row.digest[:19]}…")
