"""`catena policy check`: read a policy and try the examples in it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from catena.cli.judging import gatekeeper, policy_of, turn
from catena.reach.privacy.policy import Example, Policy


@click.command(name="check")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path | None, as_json: bool) -> int:
    """Read the policy FILE (default: that of the state folder, or the shipped one) and try its examples.

    Exit code 1 if one does not come out as it says.
    """
    policy = policy_of(file)
    rows = [{**msgspec.to_builtins(test), "got": got, "ok": got == test.expect} for test, got in tried(policy)]
    is_good = all(row["ok"] for row in rows)
    if as_json:
        click.echo(msgspec.json.encode({"ok": is_good, "version": policy.version, "tests": rows}))
        return 0 if is_good else 1
    for row in rows:
        mark = "ok  " if row["ok"] else "FAIL"
        click.echo(f"{mark} {row['expect']:<13} got {row['got']:<13} {str(row['text'])[:60]}")
    good = sum(bool(row["ok"]) for row in rows)
    click.echo(f"{len(policy.rules)} rules, {good} of {len(rows)} examples come out as they say", err=True)
    return 0 if is_good else 1


def tried(policy: Policy) -> list[tuple[Example, str]]:
    """Every example with what is decided of it."""
    keeper = gatekeeper(policy)
    found: list[tuple[Example, str]] = []
    for test in policy.tests:
        request, asker = turn(test.text, label=test.label, source=test.source, key=test.key)
        verdict = keeper.consider(request, asker, test.provider or "any", f"{test.provider or 'any'}/model")
        found.append((test, "local" if verdict.clearance is None else verdict.ruling.outcome))
    return found
