"""`catena config`: the settings as they are in force, and where each comes from."""

from __future__ import annotations

import click
import msgspec

from catena.core import config


@click.group(name="config")
def command() -> None:
    """Show the settings and where each comes from."""


@command.command()
@click.option("--origin", is_flag=True, help="Add where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(origin: bool, as_json: bool) -> None:
    """Print every setting: defaults < catena.toml < environment (CATENA__REACH__PORT) < flag."""
    folder = config.home()
    loaded = config.load(folder)
    values = config.flatten(loaded.settings)
    if as_json:
        rows = {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()}
        click.echo(msgspec.json.encode({"home": str(folder), "settings": rows}))
        return
    click.echo(f"# state folder: {folder}")
    for key, value in values.items():
        line = f"{key} = {msgspec.json.encode(value).decode()}"
        click.echo(f"{line:<56} # {loaded.origins[key]}" if origin else line)
