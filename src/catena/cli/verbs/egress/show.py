"""`catena egress show`: every departure that the audit log holds, with sums for each provider."""

from __future__ import annotations

import click
import msgspec

from catena.core import config
from catena.core.units import bytes_text
from catena.reach.egress.keeping import path_of
from catena.reach.egress.telling import Row, Total, provider_of, row, since_ns, totals
from catena.watch.departures import every
from catena.watch.log import AuditReader


@click.command(name="show")
@click.option("--provider", help="Only what this provider got, by its name in the settings.")
@click.option("--since", help="Only what left since then: 24h, 7d, a date, or RFC 3339.")
@click.option("--totals", "is_short", is_flag=True, help="Only the sums.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(provider: str | None, since: str | None, is_short: bool, as_json: bool) -> None:
    """Show what left this machine, oldest first: when, for whom, how many bytes, under which rule, and in all.

    Each line was in the audit log before its first byte left. Lists of models that `catena models` asks a provider for
    are not among them: they carry no content.
    """
    home = config.open_home()
    reader = AuditReader.open(home / "audit")
    found = [each for each in every(reader, since_ns(since)) if provider in (None, provider_of(each))]
    sums = totals(found)
    lefts = [] if is_short else [left for each in found for left in each.left]
    if as_json:
        rows = [{**msgspec.to_builtins(row(left)), "is_kept": path_of(home, left.egress).is_file()} for left in lefts]
        click.echo(msgspec.json.encode({"departures": rows, "totals": sums}))
        return
    for left in lefts:
        click.echo("  ".join(_cells(row(left), path_of(home, left.egress).is_file())))
    for total in sums:
        click.echo(_sum(total), err=False)
    if not found:
        click.echo("nothing left this machine", err=True)


def _cells(one: Row, is_kept: bool) -> list[str]:
    cells = [one.at, f"{one.receipt}/{one.serial}", one.model, one.host, f"{one.num_bytes} B", ",".join(one.rules)]
    if one.kind == "tunnel":
        cells.append("opens a tunnel")
    cells.append(f"certificate {one.certificate[7:19]}…" if one.certificate else "no TLS")
    cells += [f"past {one.proxy}"] if one.proxy else []
    cells += [f"labels {','.join(one.labels)}"] if one.labels else []
    if one.substitutions:
        cells.append("stand-ins " + ", ".join(f"{kind} {num}" for kind, num in sorted(one.substitutions.items())))
    return [*cells, *(["kept"] if is_kept else [])]


def _sum(total: Total) -> str:
    words = (
        f"{total.provider} at {total.host}: {total.requests} requests, {total.departures} departures, "
        f"{bytes_text(total.bytes_out)} out, {bytes_text(total.bytes_in)} in"
    )
    words += f", {total.lookups} look-ups" if total.lookups else ""
    words += f", {total.tunnels} tunnels" if total.tunnels else ""
    return words + (
        f"; {total.incomplete} requests lack departures: run `catena audit verify`" * bool(total.incomplete)
    )
