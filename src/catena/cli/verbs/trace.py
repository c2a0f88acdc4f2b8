"""`catena trace`: the whole chain behind one answer, link by link."""

from __future__ import annotations

import click
import msgspec

from catena.cli.chain import tracing
from catena.reach.trace import Trace

MARKS = {"verified": ("✓", "green"), "failed": ("✗", "red"), "not_recorded": ("○", "yellow")}
WORDS = {"verified": "verified", "failed": "FAILED", "not_recorded": "not recorded"}


@click.command(name="trace")
@click.argument("receipt")
@click.option("--full", is_flag=True, help="Read every byte of the model's files instead of samples.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(receipt: str, full: bool, as_json: bool) -> int:
    """Show how the answer with RECEIPT came about: built → stored → run → reached → watched.

    Works without a running gateway. Exit code 1 if a link failed.
    """
    found = tracing(receipt, is_full=full)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _print(found)
    return 0 if found.ok else 1


def _print(found: Trace) -> None:
    click.echo(f"receipt {found.receipt}")
    for link in found.links:
        mark, colour = MARKS[link.state]
        click.echo(f"\n{click.style(mark, fg=colour)} {click.style(link.stage, bold=True):<10} {WORDS[link.state]}")
        click.echo(f"  {link.reason}")
        for name, value in link.facts.items():
            click.echo(f"  {name + ':':<18} {value}")
