"""`catena ask`: one question, one answer, one receipt."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from catena.cli.asking import ask_any
from catena.core.errors import InputError


@click.command(name="ask")
@click.argument("text", nargs=-1, required=True)
@click.option("--model", default="default", show_default=True, help="Name, alias or digest of the model.")
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 2))
@click.option("--seed", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    text: tuple[str, ...],
    model: str,
    system: str | None,
    max_tokens: int,
    temperature: float | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Ask one question (`-` reads it from standard input) and print the answer.

    The gateway that runs for this state folder is asked; where none runs, one is started for this question only.
    """
    question = sys.stdin.read() if text == ("-",) else " ".join(text)
    if not question.strip():
        raise InputError("there is no question", hint='catena ask "Why is the sky blue?"')
    messages = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {"model": model, "messages": [*messages, {"role": "user", "content": question}]}
    optional = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    body |= {name: value for name, value in optional.items() if value is not None}
    if as_json:
        click.echo(msgspec.json.encode(ask_any(body)))
        return
    asked = ask_any(
        body,
        on_text=lambda piece: click.echo(piece, nl=False),
        on_wait=lambda sign: click.echo(f"({sign})", err=True),
    )
    click.echo()
    click.echo(f"[{asked.model} · {asked.decision['outcome']} · receipt {asked.receipt}]", err=True)
