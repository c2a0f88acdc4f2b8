"""`catena policy simulate`: what another policy would have decided of the turns that the audit log remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from catena.cli.judging import policy_of
from catena.core import config
from catena.core.clock import iso
from catena.core.messages import Label, Opened
from catena.reach.privacy.policy import Facts, Policy
from catena.watch.log import AuditReader


@click.command(name="simulate")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), default=10_000, show_default=True, help="How many turns, newest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, limit: int, as_json: bool) -> int:
    """Say which recorded decisions about remote models the policy FILE would change, and how.

    The log holds no text: rules that look for words (`contains`, `pattern`), and those about sources, tools and
    sessions, are named, since nothing can be said of them. Exit code 1: something would change.
    """
    policy = policy_of(file)
    rows = [row for one in _reader().recent(limit) if (row := _compared(policy, one.opened)) is not None]
    changed = [row for row in rows if row["was"] != row["would"]]
    unknown = [
        rule.name
        for rule in policy.rules
        if rule.contains or rule.pattern or rule.sources or rule.tools or rule.sessions
    ]
    if as_json:
        click.echo(msgspec.json.encode({"considered": len(rows), "changed": changed, "unknown": unknown}))
        return 1 if changed else 0
    for row in changed:
        click.echo(f"{iso(row['at_ns'])}  {row['was']:<6} -> {row['would']:<13} {row['model']:<24} {row['receipt']}")
    click.echo(f"{len(changed)} of {len(rows)} decisions would change", err=True)
    if unknown:
        click.echo(f"nothing can be said of the rules {', '.join(unknown)}: the log holds no text", err=True)
    return 1 if changed else 0


def _compared(policy: Policy, opened: Opened) -> dict[str, Any] | None:
    """What was and what would be; None for a turn that no policy decided."""
    decision = opened.decision
    if not decision.rule.startswith("policy:"):
        return None
    label = Label.parse(",".join(decision.labels)) if decision.labels else Label()
    facts = Facts.of_counts(
        decision.found,
        label=label,
        key=opened.caller,
        door=opened.door,
        provider=(decision.provider or "").partition(" ")[0],
        model=decision.model,
    )
    was = "local" if decision.outcome == "refuse" else "remote"
    would = policy.decide(facts)
    told = (
        "remote"
        if would.outcome == "remote" or (would.outcome == "pseudonymise" and was == "remote")
        else would.outcome
    )
    return {
        "receipt": opened.receipt,
        "at_ns": opened.at_ns,
        "model": decision.model,
        "was": was,
        "would": told,
        "rule_was": decision.rule.removeprefix("policy:"),
        "rule_would": would.rule,
    }


def _reader() -> AuditReader:
    return AuditReader.open(config.open_home() / "audit")
