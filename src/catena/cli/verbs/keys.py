"""`catena keys`: make, list and revoke API keys."""

from __future__ import annotations

import click
import msgspec

from catena.cli.chain import open_store
from catena.core.clock import iso
from catena.reach.access import SCOPES, Access

SCOPE_HELP = "; ".join(f"{name}: {meaning}" for name, meaning in SCOPES.items())


@click.group(name="keys")
def command() -> None:
    """Make, list and revoke API keys. They are needed as soon as the gateway listens beyond this machine."""


@command.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, default=("ask",), show_default=True, help=SCOPE_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add(name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key called NAME and print it. It is shown this once; only a salted hash is kept."""
    with open_store() as store:
        row, key = Access(store.database).add(name, scopes)
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.to_builtins(row), "key": key}))
        return
    click.echo(key)
    click.echo(f"{row.id}, scopes {', '.join(row.scopes)}; keep it now, it cannot be shown again", err=True)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(as_json: bool) -> None:
    """List the keys: everything that is known of them, which is not the keys themselves."""
    with open_store() as store:
        rows = Access(store.database).rows()
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    if not rows:
        click.echo("no keys yet (hint: `catena keys add NAME`)", err=True)
    for row in rows:
        state = f"revoked {iso(row.revoked_at_ns)[:10]}" if row.revoked_at_ns else "in use"
        click.echo(f"{row.id}  {row.name:<24} {','.join(row.scopes):<18} made {iso(row.made_at_ns)[:10]}  {state}")


@command.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Make the key with this NAME (or id) useless; a running gateway knows within a second."""
    with open_store() as store:
        row = Access(store.database).revoke(name)
    click.echo(f"revoked {row.name} ({row.id})")
