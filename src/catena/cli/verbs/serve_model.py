"""`catena serve-model`: register any supported file, say what can serve it or why not, and how to call it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click
import msgspec

from catena.cli import serving
from catena.cli.chain import open_store
from catena.cli.progress import shown
from catena.cli.verbs.pull import describe
from catena.core import config, registry
from catena.core.errors import MissingExtraError, UnsupportedError
from catena.core.manifest import StoredModel

# Task → address and body of a request, with NAME for the model's.
CALLS = {
    "generate": ("/v1/chat/completions", '{"model": "NAME", "messages": [{"role": "user", "content": "Hello"}]}'),
    "embed": ("/v1/embeddings", '{"model": "NAME", "input": "Hello"}'),
    "rerank": ("/v1/rerank", '{"model": "NAME", "query": "Hello", "documents": ["Hi", "Bye"]}'),
}


@click.command(name="serve-model")
@click.argument("path")
@click.option("--name", required=True, help="What to call the model.")
@click.option("--up", is_flag=True, help="Serve at once, until interrupted.")
@click.option("--port", type=click.IntRange(0, 65535), help="With --up: the port; 0 takes a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: str, name: str, up: bool, port: int | None, as_json: bool) -> None:
    """Register the model at PATH (a file, a folder, or any source that `catena pull` takes) and tell how to call it.

    Says of each engine whether it can run the model, or why not.
    """
    with open_store() as store, shown() as display:
        pulled = store.pull(path, name=name, progress=display)
        model = store.resolve(name)
    reasons = engines(model)
    is_able = None in reasons.values()
    settings = config.load(config.home()).settings.reach
    line = call(model, f"http://{settings.host}:{settings.port if port is None else port}")
    if as_json:
        click.echo(msgspec.json.encode({"row": pulled.row, "engines": reasons, "call": line if is_able else None}))
    else:
        click.echo(describe(pulled))
        for engine, reason in reasons.items():
            click.echo(f"  {engine:<12}{'can run it' if reason is None else reason}")
    if not is_able:
        raise UnsupportedError(f"no engine here can run {name}", hint="it is stored; `catena rm` takes it away again")
    if up:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        flags: dict[str, Any] = {} if port is None else {"reach.port": port}
        serving.run(flags=flags, ready=lambda running: click.echo(f"ready {running.url}\n{call(model, running.url)}"))
    elif not as_json:
        click.echo(line)


def engines(model: StoredModel) -> dict[str, str | None]:
    """Why each engine refuses `model`; None for those that take it."""
    found: dict[str, str | None] = {}
    for name in registry.names("engines"):
        try:
            found[name] = registry.find("engines", name)().accepts(model)
        except MissingExtraError as error:
            found[name] = f"{error.message} ({error.hint})"
    return found


def call(model: StoredModel, url: str) -> str:
    """A command that asks the model one question where a gateway runs; for one that predicts, what it takes."""
    path, body = CALLS.get(model.manifest.task, (f"/v2/models/{model.name}", ""))
    asked = f" -H 'content-type: application/json' -d '{body.replace('NAME', model.name)}'" if body else ""
    return f"curl {url}{path}{asked}"
