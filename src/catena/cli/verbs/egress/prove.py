"""`catena egress prove`: a proof, small enough for one packet, that the audit log holds a departure."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from catena.core import config
from catena.core.errors import ResourceError
from catena.watch import departures
from catena.watch.keys import Signer
from catena.watch.log import AuditReader


@click.command(name="prove")
@click.argument("receipt")
@click.option("--serial", type=click.IntRange(min=1), help="Which departure of it; default: the last request.")
@click.option("-o", "--output", help="File to write, `-` for standard output; default: RECEIPT-SERIAL.proof.")
@click.option("--salt", is_flag=True, help="Add the receipt's salt, so that its holder can check the bytes (--sent).")
def command(receipt: str, serial: int | None, output: str | None, salt: bool) -> None:
    """Write a proof of what left under RECEIPT, for `python -m catena.watch.verifier PROOF --key KEYFILE`."""
    home = config.open_home()
    signer, reader = Signer.open(home), AuditReader.open(home / "audit")
    left = departures.one(reader, receipt, serial)
    proof = departures.prove(reader, left, signer.salt(receipt) if salt else None)
    departures.check(proof, signer.verifier_key)
    if output == "-":
        sys.stdout.buffer.write(proof)
        return
    path = Path(output or f"{receipt}-{left.egress.serial}.proof")
    try:
        path.write_bytes(proof)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}") from None
    key = home / "keys" / "verifier.vkey"
    click.echo(f"{len(proof)} bytes written to {path}; check them with --key {key}", err=True)
