"""`catena chat`: a conversation in the terminal; every answer has a receipt."""

from __future__ import annotations

from typing import Any

import click

from catena.cli.asking import ask
from catena.cli.serving import gateway
from catena.core.errors import CatenaError, ContextError, InputError

HELP = "/new starts over · /receipt shows the last receipt · /quit or Ctrl-D ends · Ctrl-C stops an answer"


@click.command(name="chat")
@click.option("--model", default="default", show_default=True, help="Name, alias or digest of the model.")
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=1024, show_default=True)
def command(model: str, system: str | None, max_tokens: int) -> None:
    """Talk with a model. The conversation is kept in memory only."""
    opening: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages = list(opening)
    receipt = "none yet"
    click.echo(HELP, err=True)
    with gateway() as url:
        while True:
            try:
                text = click.prompt(click.style("you", bold=True), prompt_suffix="> ", err=True).strip()
            except click.Abort:
                click.echo(err=True)
                return
            match text:
                case "/quit":
                    return
                case "/new":
                    messages = list(opening)
                case "/receipt":
                    click.echo(receipt, err=True)
                case _ if text.startswith("/"):
                    click.echo(HELP, err=True)
                case _:
                    receipt = _turn(url, model, max_tokens, messages, text) or receipt


def _turn(url: str, model: str, max_tokens: int, messages: list[dict[str, Any]], text: str) -> str | None:
    """Ask with the whole conversation; on success it grows by the question and the answer."""
    question = {"role": "user", "content": text}
    body = {"model": model, "messages": [*messages, question], "max_tokens": max_tokens}
    try:
        asked = ask(
            url,
            body,
            on_text=lambda piece: click.echo(piece, nl=False),
            on_wait=lambda sign: click.echo(f"({sign})", err=True),
        )
    except KeyboardInterrupt:
        click.echo("\n(stopped)", err=True)
        return None
    except CatenaError as error:
        click.echo(f"error: {error.message}", err=True)
        is_too_long = isinstance(error, ContextError | InputError)
        click.echo(f"hint: {error.hint or ('/new starts over' if is_too_long else 'try again')}", err=True)
        return error.receipt
    click.echo()
    messages += [question, {"role": "assistant", "content": asked.answer}]
    return asked.receipt
