"""`catena doctor`: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import psutil

from catena.core import config
from catena.reach import door
from catena.run.doctor import Finding, Report, examine, is_ok

MARKS = {"good": ("✓", "green"), "missing": ("○", "yellow"), "broken": ("✗", "red")}


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Tell what this machine has and what is missing, with the command that mends it.

    ✓ good, ○ missing but not needed, ✗ broken. Exit code 1 if anything is broken.
    """
    home = config.home()
    settings = config.load(home).settings
    report = examine(home, settings.run)
    findings = [*report.findings, _port(home, settings.reach.port)]
    report = msgspec.structs.replace(report, findings=tuple(findings), ok=is_ok(findings))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        _print(report)
    return 0 if report.ok else 1


def _print(report: Report) -> None:
    click.echo(f"catena {report.version} on {report.platform}\n")
    width = max(len(finding.topic) for finding in report.findings) + 2
    for finding in report.findings:
        mark, colour = MARKS[finding.state]
        click.echo(f"{click.style(mark, fg=colour)} {finding.topic:<{width}}{finding.text}")
        if finding.command:
            click.echo(f"  {'':<{width}}→ {finding.command}")


def _port(home: Path, port: int) -> Finding:
    """Whether the port of the settings is free, served by the gateway of this state folder, or somebody else's."""
    running = door.find(home)
    if running is not None:
        return Finding("gateway", "good", f"serves at {running.url} (process {running.pid})")
    try:
        holders = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return Finding("gateway", "good", f"not running; who listens on port {port} is not shown to this user")
    holder = next((one for one in holders if one.laddr and one.laddr.port == port), None)
    if holder is None:
        return Finding("gateway", "good", f"not running; port {port} is free")
    who = f"process {holder.pid}" if holder.pid else "another program"
    return Finding("gateway", "missing", f"not running; {who} listens on port {port}", f"catena up --port {port + 1}")
