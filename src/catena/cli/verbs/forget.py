"""`catena forget`: forgets a text, a person, a conversation or all of a key, and proves it by a scan."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import anyio
import click
import msgspec

from catena.cli.asking import KEY_VARIABLE
from catena.cli.chain import open_chain, open_store
from catena.cli.serving import BACKEND, OTHER_S
from catena.core import config
from catena.core.clock import monotonic_s
from catena.core.errors import ConflictError, InputError, NotFoundError
from catena.core.units import bytes_text
from catena.reach import door
from catena.reach.access import LOCAL, Access
from catena.reach.forgetting import Forms, Report, Target
from catena.reach.forgetting.scan import Scan, scan

PATH = "/catena/v1/forget"
TIMEOUT_S = 24 * 3600.0


@click.command(name="forget")
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="All that holds it, in any form; -: ask for it.")
@click.option("--from", "source", type=click.Path(dir_okay=False, allow_dash=True), help="Texts, one a line.")
@click.option("--person", "persons", multiple=True, metavar="NAME", help="All that holds it, in any order and joint.")
@click.option("--conversation", "conversations", multiple=True, metavar="ID", help="All turns, by the id of any.")
@click.option("--key", "keys", multiple=True, metavar="NAME", help="All that a key left; `local`: without a key.")
@click.option("--file", "files", multiple=True, metavar="ID", help="One file.")
@click.option("--batch", "batches", multiple=True, metavar="ID", help="One batch, with what it brought.")
@click.option("--check", "checks", multiple=True, metavar="TEXT", help="Forget nothing; look for it in every byte.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    texts: tuple[str, ...],
    source: str | None,
    persons: tuple[str, ...],
    conversations: tuple[str, ...],
    keys: tuple[str, ...],
    files: tuple[str, ...],
    batches: tuple[str, ...],
    checks: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Forget, for good: answers, files, batches, copies of what left, stray copies in the state folder.

    Works beside a running gateway and without one. Keys go first, so that every copy is unreadable at once; a record
    without content stays in the audit log. Ends with 1 if something still holds a text.
    """
    words = (*_asked(texts), *_lines(source))
    if checks:
        if words or persons or conversations or keys or files or batches:
            raise click.UsageError("--check forgets nothing; call it by itself")
        return _check(checks, as_json)
    target = Target(words, persons, conversations, _ids(keys), files, batches)
    if not target:
        raise click.UsageError("say what: --text, --person, --conversation, --key, --file or --batch")
    if dry_run or not yes:
        found = call(target, is_dry=True)
        if dry_run:
            _tell(found, as_json)
            return 0
        _tell(found, as_json=False, is_error=True)
        click.confirm("Forget all of this? It cannot be brought back", abort=True, err=True)
    report = call(target)
    _tell(report, as_json)
    return 1 if report.left or report.unreadable else 0


def call(target: Target, *, is_dry: bool = False) -> Report:
    """Have it done by the gateway that runs, or here where none does. Raises what either raises."""
    home, began_s = config.open_home(), monotonic_s()
    while True:
        if address := door.find(home):
            path = f"{PATH}?dry_run={int(is_dry)}"
            key = os.environ.get(KEY_VARIABLE)
            return msgspec.convert(door.post(address.url, path, target, key=key, timeout_s=TIMEOUT_S).body, Report)
        try:
            return anyio.run(_here, target, is_dry, backend_options=BACKEND)
        except ConflictError:
            # Another process has the state folder open: a gateway that starts, or one that ends.
            if monotonic_s() - began_s > OTHER_S:
                raise
            time.sleep(0.05)


async def _here(target: Target, is_dry: bool) -> Report:
    async with open_chain() as chain:
        return await (chain.forgetting.preview(target) if is_dry else chain.forgetting.run(target))


def _asked(texts: Iterable[str]) -> list[str]:
    """The texts; those that are to stay out of the shell's history are asked for."""
    return [click.prompt("text to forget", hide_input=True, err=True) if text == "-" else text for text in texts]


def _lines(source: str | None) -> list[str]:
    if source is None:
        return []
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return [line for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{source} cannot be read as lines of UTF-8 text") from None


def _ids(names: tuple[str, ...]) -> tuple[str, ...]:
    """The ids of keys with these names or ids. Raises NotFoundError."""
    if not names:
        return ()
    with open_store() as store:
        known = {name: row.id for row in Access(store.database).rows() for name in (row.name, row.id)}
    known[LOCAL.caller.key] = LOCAL.caller.key
    for name in names:
        if name not in known:
            raise NotFoundError(f"there is no key {name!r}", hint="see `catena keys list`")
    return tuple(known[name] for name in names)


def _check(texts: tuple[str, ...], as_json: bool) -> int:
    """Look for texts in every byte of every file; 1 if one is found, or a file could not be read."""
    found = scan(config.open_home(), Forms(Target(texts).words()))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _tell_scan(found)
    return 1 if found.hits or found.unread else 0


def _tell_scan(found: Scan) -> None:
    for hit in found.hits:
        click.echo(f"{hit.path}  text {', '.join(map(str, hit.texts))}")
    for name in found.unread:
        click.echo(f"{name}  cannot be read")
    click.echo(f"found in {len(found.hits)} of {found.files} files, {bytes_text(found.bytes)}", err=True)


def _tell(report: Report, as_json: bool, *, is_error: bool = False) -> None:
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    counts = {
        "answers": report.answers,
        "files": report.files,
        "batches": report.batches,
        "copies of what left": report.departures,
        "names of keys": report.key_names,
        "stray files": len(report.others),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"
    click.echo(f"{'would forget' if report.is_dry else 'forgot'}: {told}", err=is_error)
    for name in report.others:
        click.echo(f"  {name}", err=is_error)
    if report.unreadable:
        click.echo(f"{report.unreadable} items were changed or damaged: what they hold is not known", err=True)
    for left in report.left:
        click.echo(f"left: {left.path}: {left.why}", err=True)
    if report.scanned_files:
        what = f"{report.scanned_files} files, {bytes_text(report.scanned_bytes)}"
        click.echo(f"looked through {what}: {len(report.left)} still hold a text", err=is_error)
    if report.receipt:
        click.echo(f"receipt: {report.receipt}", err=is_error)
