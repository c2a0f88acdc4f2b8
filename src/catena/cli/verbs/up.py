"""`catena up`: serve models on this machine until interrupted."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from catena.cli import serving


@click.command(name="up")
@click.option("--host", help="Address to listen on; beyond loopback an API key is needed.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 7411]")
@click.option("--echo", is_flag=True, help="Also serve `echo`, which answers with the question: for tests.")
@click.option("-v", "--verbose", is_flag=True, help="Log every request: method, route, status and time, never content.")
def command(host: str | None, port: int | None, echo: bool, verbose: bool) -> None:
    """Serve models on this machine until interrupted.

    Prints `ready http://127.0.0.1:7411` once requests are taken. Ctrl-C lets answers end first; twice, it does not.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("catena").setLevel(logging.DEBUG if verbose else logging.INFO)
    flags: dict[str, Any] = {"reach.host": host, "reach.port": port}
    given = {key: value for key, value in flags.items() if value is not None}
    serving.run(flags=given, with_echo=echo, ready=_say_ready)


def _say_ready(url: str) -> None:
    click.echo(f"ready {url}")
