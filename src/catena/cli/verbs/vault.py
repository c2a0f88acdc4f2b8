"""`catena vault`: how what is kept on this machine is locked, and a new lock for it."""

from __future__ import annotations

from typing import get_args

import click
import msgspec

from catena.core import config
from catena.core.errors import NotFoundError
from catena.reach.vault import slots
from catena.reach.vault.masters import Place
from catena.reach.vault.vault import prompt_on_terminal, rotate


@click.group(name="vault")
def command() -> None:
    """Show how answers, files and batches that are kept here are locked, and lock them anew."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Say where the key of all keys is, how often it was changed, and how many item keys there are."""
    path = config.open_home() / "keys" / slots.NAME
    try:
        lock = slots.read_header(path).lock
    except FileNotFoundError:
        raise NotFoundError("there is no vault yet", hint="it is made with the first `catena up`") from None
    num_slots = (path.stat().st_size - slots.HEADER_BYTES) // slots.SLOT_BYTES
    if as_json:
        told = {"place": lock.place, "id": lock.id, "turn": lock.turn, "slots": num_slots}
        click.echo(msgspec.json.encode(told))
        return
    click.echo(f"locked by {lock.place}, lock number {lock.turn}, room for {num_slots} item keys")


@command.command(name="rotate")
@click.option("--to", "place", type=click.Choice(get_args(Place)), help="Where the new key is; default: as now.")
def rotate_command(place: Place | None) -> None:
    """Give the vault a new master key under a new lock; no gateway may run.

    Every item key is wrapped anew; the items themselves stay as they are. Set reach.vault to the same place
    afterwards. The passphrase that opens it comes from the variable that reach.passphrase_env names, a new one from
    the same with _NEW; from a terminal both are asked for.
    """
    home = config.open_home()
    settings = config.load(home).settings.reach
    lock = rotate(home, settings, place or settings.vault, prompt=prompt_on_terminal())
    click.echo(f"locked by {lock.place} now, lock number {lock.turn}")
    if lock.place != settings.vault:
        click.echo(f'hint: set vault = "{lock.place}" under [reach] in catena.toml', err=True)
