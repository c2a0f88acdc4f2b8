"""`catena tour`: the whole chain once, from pulling a model to a receipt that was proved."""

from __future__ import annotations

import sys

import click
import msgspec

from catena.cli import serving
from catena.cli.asking import ask
from catena.cli.chain import open_store
from catena.cli.progress import shown
from catena.cli.verbs.pull import describe
from catena.core import config
from catena.core.clock import monotonic_s
from catena.core.units import bytes_text, duration_text
from catena.reach import door
from catena.store import catalogue
from catena.watch import proof

QUESTION = "What is a chain? Answer in one sentence."


@click.command(name="tour")
@click.option("--once", is_flag=True, help="End after the answer instead of going on serving.")
@click.option("--question", default=QUESTION, show_default=True, help="What to ask.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 7411; any free with --once]")
def command(once: bool, question: str, port: int | None) -> None:
    """Pull the embedded models, serve them, ask one question, prove its receipt, and go on serving."""
    _pull()
    running = door.find(config.open_home())
    if running is not None:
        click.echo(f"a gateway already serves this state folder at {running.url}", err=True)
        _visit(running.url, question)
        return
    flags = {"reach.port": 0 if once else port} if once or port is not None else {}

    def visit(url: str) -> bool:
        _visit(url, question)
        if not once:
            click.echo(f"\nopen {url} in a browser; Ctrl-C ends")
            sys.stdout.flush()
        return not once

    serving.run(flags=flags, ready=lambda running: click.echo(f"ready {running.url}"), visit=visit)


def _pull() -> None:
    """Bring every model of the catalogue that is not here yet."""
    began_s = monotonic_s()
    downloaded_bytes = 0
    with open_store() as store, shown() as display:
        present = {row.name for row in store.models()}
        missing = [entry.name for entry in catalogue() if entry.name not in present]
        for name in missing:
            pulled = store.pull(name, progress=display)
            display.close()
            downloaded_bytes += pulled.bytes_downloaded
            click.echo(describe(pulled))
    if missing:
        took = duration_text(monotonic_s() - began_s)
        click.echo(f"{len(missing)} models, {bytes_text(downloaded_bytes)} downloaded in {took}")


def _visit(url: str, question: str) -> None:
    """Ask through the gateway's own door, then prove the receipt as an outsider would: with the public key only."""
    click.echo(f"\nyou> {question}")
    asked = ask(url, _body(question), on_text=lambda piece: click.echo(piece, nl=False))
    click.echo()
    receipt = door.get(url, f"/catena/v1/receipts/{asked.receipt}/proof").body
    key = (config.home() / "keys" / "verifier.vkey").read_text(encoding="utf-8").strip()
    _, closed = proof.check(receipt, key)
    tokens = asked.usage["completion_tokens"] if asked.usage else 0
    click.echo(f"\nmodel    {asked.model}  {asked.digest}")
    click.echo(f"decision {asked.decision['outcome']}: {asked.decision['reason']}")
    click.echo(f"answer   {tokens} tokens, outcome {closed.outcome if closed else 'open'}")
    click.echo(f"receipt  {asked.receipt}  verified, {len(msgspec.json.encode(receipt))} bytes of proof")
    click.echo(f"         the whole chain: catena trace {asked.receipt}")


def _body(question: str) -> dict[str, object]:
    return {"model": "default", "messages": [{"role": "user", "content": question}], "max_tokens": 80, "temperature": 0}
