"""`catena audit`: show, prove, verify or export the audit log; works beside a running gateway and without one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from catena.core import config
from catena.core.clock import iso
from catena.core.errors import InputError, NotFoundError, ResourceError
from catena.core.messages.audit import in_full
from catena.watch import export as exporting
from catena.watch.keys import Signer
from catena.watch.log import AuditReader, Recorded
from catena.watch.verification import Verdict, verify

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(name="audit")
def command() -> None:
    """Show, prove, verify or export the audit log."""


@command.command()
@click.argument("receipt", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many requests.")
@json_option
def show(receipt: str | None, limit: int, as_json: bool) -> None:
    """List the newest requests, or show all that was recorded of RECEIPT."""
    reader = _reader()
    if receipt is not None:
        found = reader.find(receipt)
        _print_json(_plain(found)) if as_json else _print_one(found)
        return
    rows = reader.recent(limit)
    if as_json:
        _print_json([_plain(row) for row in rows])
        return
    if not rows:
        click.echo("the audit log is empty", err=True)
    for row in rows:
        click.echo("  ".join(_cells(row)))


@command.command()
@click.argument("receipt")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default: standard output.")
@click.option("--salt", is_flag=True, help="Add the receipt's salt, so that its holder can check question and answer.")
def prove(receipt: str, output: Path | None, salt: bool) -> None:
    """Write a proof that RECEIPT is in the log, for `python -m catena.watch.verifier PROOF --key KEYFILE`."""
    signer = Signer.open(config.open_home())
    proof = _reader().prove(receipt, signer.salt(receipt) if salt else None)
    text = msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"
    if output is None or str(output) == "-":
        click.echo(text, nl=False)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise ResourceError(f"{output} cannot be written: {error.strerror}") from None
    key = config.home() / "keys" / "verifier.vkey"
    click.echo(f"proof of {receipt} written to {output}; check it with --key {key}", err=True)


@command.command(name="verify")
@click.option("--key", type=click.Path(path_type=Path), help="Verifier key file; default: this machine's key.")
@click.option("--since", type=click.Path(path_type=Path), help="A checkpoint kept from earlier: detects a cut or fork.")
@click.option("--full", is_flag=True, help="Hash every entry and tile anew instead of comparing with the signed seal.")
@json_option
def check(key: Path | None, since: Path | None, full: bool, as_json: bool) -> int:
    """Check every byte of the log, its tree, its signatures, and that each request was opened and closed once.

    Exit code 1 if something is wrong.
    """
    home = config.open_home()
    verifier_key = Signer.open(home).verifier_key if key is None else _read(key)
    verdict = verify(home / "audit", verifier_key, is_full=full, since=None if since is None else _read(since))
    _print_json(verdict) if as_json else _print_verdict(verdict)
    return 0 if verdict.ok else 1


@command.command()
@click.argument("target")
def export(target: str) -> None:
    """Write the log to the new folder TARGET in C2SP tlog-tiles form, or as JSON lines to `-`."""
    reader = _reader()
    if target == "-":
        for line in exporting.lines(reader):
            sys.stdout.buffer.write(line)
        return
    num_bytes = exporting.copy(reader, Path(target), Signer.open(config.open_home()).verifier_key)
    click.echo(f"{reader.size} entries, {num_bytes} bytes written to {target}", err=True)


def _reader() -> AuditReader:
    return AuditReader.open(config.open_home() / "audit")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} cannot be read as text") from None


def _plain(found: Recorded) -> dict[str, Any]:
    parts = {name: in_full(part) for name, part in found._asdict().items()}
    return {"receipt": found.opened.receipt, **parts}


def _print_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value))


def _cells(row: Recorded) -> tuple[str, ...]:
    opened, closed = row.opened, row.closed
    usage = closed.usage if closed else None
    tokens = f"{usage.prompt_tokens}+{usage.completion_tokens}" if usage else "-"
    took = f"{(closed.at_ns - opened.at_ns) / 1e9:.2f} s" if closed else "-"
    outcome = closed.outcome if closed else "open"
    if opened.decision.outcome == "refuse":
        outcome = "refused"
    model = opened.decision.model or "-"
    return (iso(opened.at_ns), f"{took:>9}", f"{outcome:<9}", f"{tokens:>11}", f"{model:<24}", opened.receipt)


def _print_one(found: Recorded) -> None:
    for title, record, index in (
        ("opened", found.opened, found.opened_index),
        ("closed", found.closed, found.closed_index),
    ):
        if record is None:
            click.echo("closed: not yet")
            continue
        click.echo(f"{title}: entry {index}, {iso(record.at_ns)}")
        for name, value in msgspec.to_builtins(record).items():
            if name not in ("type", "at_ns", "receipt") and value not in (None, "", [], {}):
                text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                click.echo(f"  {name + ':':<17} {text}")


def _print_verdict(verdict: Verdict) -> None:
    for problem in verdict.problems:
        place = problem.file if problem.index is None else f"{problem.file}, entry {problem.index}"
        click.echo(f"{place}: {problem.what}", err=True)
    mark = "ok" if verdict.ok else "NOT OK"
    click.echo(f"{mark}: {verdict.records} records, {verdict.open} open, depth {verdict.depth}, root {verdict.root}")
    if verdict.torn_bytes:
        click.echo(f"{verdict.torn_bytes} bytes of an unfinished write follow; they hold no record", err=True)
