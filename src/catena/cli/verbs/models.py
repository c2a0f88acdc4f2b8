"""`catena models`: the models on this machine, those that other programs hold, and those that providers offer."""

from __future__ import annotations

import anyio
import click
import msgspec

from catena.cli.chain import open_cloud, open_store
from catena.core import config
from catena.core.clock import iso
from catena.core.errors import CatenaError
from catena.core.settings import ReachSettings
from catena.core.units import bytes_text
from catena.reach.cloud.passage import RemoteModel
from catena.store.elsewhere import Found

FOUND = ("source", "program", "name", "format", "size_bytes", "stored_as", "leaves", "refusal")


@click.command(name="models")
@click.option("--found", is_flag=True, help="List what Ollama, LM Studio, llama.cpp, Hugging Face, ModelScope hold.")
@click.option("--remote", is_flag=True, help="Ask every configured provider which models it has, and list those.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(found: bool, remote: bool, as_json: bool) -> int:
    """List the models on this machine. With --found: those of other programs; `catena pull found:…` takes one.

    With --remote, the providers of catena.toml are asked, which sends them their key and nothing else. Exit code 1 if
    one of them does not answer.
    """
    if remote:
        return _list_remote(as_json)
    _list_found(as_json) if found else _list_stored(as_json)
    return 0


def _list_stored(as_json: bool) -> None:
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
        click.echo(f"{mark} {row.name:<{width}}{task:<11}{form:<12}{size:>9}  {day}  {row.digest[:19]}…")


def _list_found(as_json: bool) -> None:
    with open_store() as store:
        models = store.found()
    if as_json:
        rows = [{**{name: getattr(one, name) for name in FOUND}, "path": str(one.path)} for one in models]
        click.echo(msgspec.json.encode(rows))
        return
    if not models:
        click.echo("no other program has models here", err=True)
        return
    width = max(len(one.source) for one in models) + 2
    for one in models:
        size = bytes_text(one.size_bytes) if one.size_bytes else ""
        click.echo(f"  {one.source:<{width}}{one.format:<12}{size:>9}  {_note(one)}".rstrip())


def _list_remote(as_json: bool) -> int:
    settings = config.load(config.home()).settings.reach
    if not settings.providers:
        click.echo("no providers are configured (hint: docs/guides/providers.md)", err=True)
        return 0
    rows, failures = anyio.run(_ask_all, settings)
    if as_json:
        shown = [{"name": one.name, "provider": one.provider, "kind": one.kind, "host": one.host} for one in rows]
        click.echo(msgspec.json.encode({"models": shown, "failed": failures}))
    else:
        width = max((len(one.name) for one in rows), default=0) + 2
        for one in rows:
            click.echo(f"  {one.name:<{width}}{one.kind:<16}{one.host}")
        for name, why in failures.items():
            click.echo(f"{name}: {why}", err=True)
    return 1 if failures else 0


async def _ask_all(settings: ReachSettings) -> tuple[list[RemoteModel], dict[str, str]]:
    rows: list[RemoteModel] = []
    failures: dict[str, str] = {}
    async with open_cloud(settings) as cloud:
        assert cloud is not None
        for name in cloud.ends:
            try:
                rows += await cloud.ask_models(name)
            except CatenaError as error:
                failures[name] = str(error)
    return rows, failures


def _note(found: Found) -> str:
    if found.refusal:
        return f"cannot be taken: {found.refusal}"
    if found.stored_as:
        return f"stored as {found.stored_as}"
    return f"without {', '.join(found.leaves)}" if found.leaves else ""
