"""`catena egress replay`: the exact bytes that left, once more, checked against the record; nothing is ever sent."""

from __future__ import annotations

import sys
from contextlib import closing

import click
import msgspec

from catena.core import config
from catena.core.errors import IntegrityError
from catena.reach.egress.keeping import Shelf
from catena.reach.egress.telling import row
from catena.reach.ticket import salted_digest
from catena.reach.vault.vault import Vault, prompt_on_terminal
from catena.watch import departures
from catena.watch.keys import Signer
from catena.watch.log import AuditReader


@click.command(name="replay")
@click.argument("receipt")
@click.option("--serial", type=click.IntRange(min=1), help="Which departure of it; default: the last request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the bytes in base64.")
def command(receipt: str, serial: int | None, as_json: bool) -> None:
    """Show the exact bytes that left under RECEIPT, once they were found to be those of its record.

    Credentials are replaced by their salted digest. Only the bytes go to standard output. Nothing is sent.
    """
    home = config.open_home()
    signer, reader = Signer.open(home), AuditReader.open(home / "audit")
    left = departures.one(reader, receipt, serial)
    departures.check(departures.prove(reader, left), signer.verifier_key)
    with closing(Vault.open(home, config.load(home).settings.reach, prompt=prompt_on_terminal())) as vault:
        shown = Shelf(home, vault).read(left.egress)
    if salted_digest(signer.salt(receipt), shown) != left.egress.digest:
        raise IntegrityError(f"what was kept of {receipt} is not what its record says left")
    one = row(left)
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.to_builtins(one), "bytes": shown}))
        return
    certificate = one.certificate or "without TLS"
    click.echo(f"{one.at}  {one.num_bytes} bytes left for {one.host} ({one.address}), {certificate}", err=True)
    click.echo("they are those of the record, and the record is in the signed log", err=True)
    sys.stdout.buffer.write(_harmless(shown) if sys.stdout.isatty() else shown)
    sys.stdout.buffer.flush()


def _harmless(data: bytes) -> bytes:
    """`data` without what could steer a terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "" for letter in text).encode() + b"\n"
