"""`catena up`: serve models on this machine until interrupted."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from catena.cli import serving
from catena.core import config
from catena.core.errors import ConfigError
from catena.reach.cloud import sealing
from catena.reach.gateway.server import Listening


@click.command(name="up")
@click.option("--host", help="Address to listen on; beyond loopback an API key is needed.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 7411]")
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Port for gRPC; 0 takes a free one.  [default: off]")
@click.option("--echo", is_flag=True, help="Also serve `echo`, which answers with the question: for tests.")
@click.option(
    "--sealed", is_flag=True, help="Have the kernel (Linux) refuse every connection that leaves; no providers."
)
@click.option("-v", "--verbose", is_flag=True, help="Log every request: method, route, status and time, never content.")
def command(host: str | None, port: int | None, grpc_port: int | None, echo: bool, sealed: bool, verbose: bool) -> None:
    """Serve models on this machine until interrupted.

    Prints `ready http://127.0.0.1:7411` once requests are taken, and after it `grpc 127.0.0.1:…` where that is served.
    Ctrl-C lets answers end first; twice, it does not.
    """
    if sealed:
        _seal()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("catena").setLevel(logging.DEBUG if verbose else logging.INFO)
    flags: dict[str, Any] = {"reach.host": host, "reach.port": port, "reach.grpc_port": grpc_port}
    given = {key: value for key, value in flags.items() if value is not None}
    serving.run(flags=given, with_echo=echo, ready=_say_ready)


def _seal() -> None:
    """Before anything has a thread. Raises ConfigError where a provider is configured, UnsupportedError."""
    if config.load(config.open_home()).settings.reach.providers:
        raise ConfigError("what is sealed reaches nobody, and providers are configured", hint="remove one or the other")
    sealing.seal()
    click.echo("sealed: no connection can leave this process or its children", err=True)


def _say_ready(running: Listening) -> None:
    calls = f" grpc {running.calls.address}" if running.calls else ""
    click.echo(f"ready {running.url}{calls}")
