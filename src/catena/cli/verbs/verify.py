"""`catena verify`: a model's signature and every byte of its files."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from catena.cli.chain import open_store
from catena.cli.progress import shown
from catena.core.errors import CatenaError, InputError, NotFoundError


@click.command(name="verify")
@click.argument("names", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Check every model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(names: tuple[str, ...], is_all: bool, as_json: bool) -> int:
    """Check the signatures of NAMES and every byte of their files. Exit code 1 if something does not hold."""
    if not names and not is_all:
        raise InputError("there is nothing to check", hint="catena verify NAME, or --all")
    found: list[dict[str, Any]] = []
    with open_store() as store, shown() as display:
        for name in store.names() if is_all else names:
            digest = store.digest(name)
            try:
                store.check_files(digest, is_full=True, progress=display)
                found.append({"name": name, "digest": digest, "ok": True, "problem": None})
            except NotFoundError:
                raise
            except CatenaError as error:
                found.append({"name": name, "digest": digest, "ok": False, "problem": error.message})
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for row in found:
            click.echo(f"{'ok' if row['ok'] else 'NOT OK'}  {row['name']}  {row['problem'] or row['digest']}")
    return 0 if all(row["ok"] for row in found) else 1
