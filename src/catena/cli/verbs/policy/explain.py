"""`catena policy explain`: what would be decided of a text, by which rule, and what was found in it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from catena.cli.judging import gatekeeper, policy_of, turn
from catena.core.messages import ChatRequest, message_text
from catena.reach.privacy.clearance import kinds_told


@click.command(name="explain")
@click.argument("text", default="-")
@click.option("--policy", "file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of the one in force.")
@click.option("--label", default="", help="What the text is labelled, e.g. `personal, medical`.")
@click.option("--source", default="", help="Where it came from, e.g. `tool:search` or `file:notes.md`.")
@click.option("--key", default="local", show_default=True, help="Whose call it would be: the id of an API key.")
@click.option("--provider", default="any", help="Where it would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(text: str, file: Path | None, label: str, source: str, key: str, provider: str, as_json: bool) -> None:
    """Say where TEXT (`-`: standard input) may go and why. Nothing is sent and nothing is recorded."""
    if text == "-":
        text = sys.stdin.read()
    request, asker = turn(text, label=label, source=source, key=key)
    policy = policy_of(file)
    verdict = gatekeeper(policy).consider(request, asker, provider, f"{provider}/model")
    clearance, facts = verdict.clearance, verdict.facts
    outcome = "local" if clearance is None else verdict.ruling.outcome
    sent = None
    if clearance is not None and isinstance(clearance.request, ChatRequest):
        sent = message_text(clearance.request.messages[0])
    told = {
        "decision": outcome,
        "rule": verdict.ruling.rule,
        "reason": verdict.ruling.reason,
        "labels": verdict.label.names,
        "found": facts.kinds,
        "context": list(facts.reasons) if facts.is_private else [],
        "leaves": sent,
        "policy": policy.version,
    }
    if as_json:
        click.echo(msgspec.json.encode(told))
        return
    click.echo(f"{outcome}: {verdict.ruling.reason} (rule {verdict.ruling.rule!r})")
    click.echo(f"worth    {', '.join(verdict.label.names)}")
    click.echo(f"found    {kinds_told(facts.kinds) or 'nothing'}")
    if facts.is_private:
        click.echo(f"context  {'; '.join(facts.reasons) or 'looks private'}")
    if sent is not None and sent != text:
        click.echo(f"leaves   {sent}")
