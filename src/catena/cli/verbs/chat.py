"""`catena chat`: a conversation in the terminal; every answer has a receipt."""

from __future__ import annotations

from typing import Any

import click

from catena.cli.asking import ask
from catena.cli.serving import gateway
from catena.core.errors import CatenaError, ContextError, InputError, NetworkError

HELP = "/new starts over · /receipt shows the last receipt · /quit or Ctrl-D ends · Ctrl-C stops an answer"


@click.command(name="chat")
@click.option("--model", default="default", show_default=True, help="Name, alias or digest of the model.")
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=1024, show_default=True)
def command(model: str, system: str | None, max_tokens: int) -> None:
    """Talk with a model. The conversation is kept in memory only."""
    opening: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    conversation = Conversation(model, max_tokens, opening)
    click.echo(HELP, err=True)
    while True:
        with gateway() as url:
            if conversation.go_on(url):
                return


class Conversation:
    """What was said so far, and the last receipt."""

    def __init__(self, model: str, max_tokens: int, opening: list[dict[str, Any]]) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._opening = opening
        self._messages = list(opening)
        self._receipt = "none yet"

    def go_on(self, url: str) -> bool:
        """Take turns with the gateway at `url`: True when the user ends it, False when the gateway has gone away."""
        while True:
            try:
                text = click.prompt(click.style("you", bold=True), prompt_suffix="> ", err=True).strip()
            except click.Abort:
                click.echo(err=True)
                return True
            match text:
                case "/quit":
                    return True
                case "/new":
                    self._messages = list(self._opening)
                case "/receipt":
                    click.echo(self._receipt, err=True)
                case _ if text.startswith("/"):
                    click.echo(HELP, err=True)
                case _:
                    if not self._turn(url, text):
                        return False

    def _turn(self, url: str, text: str) -> bool:
        """Ask with all that was said; it grows by the question and the answer. False when the gateway has gone."""
        question = {"role": "user", "content": text}
        body = {"model": self._model, "messages": [*self._messages, question], "max_tokens": self._max_tokens}
        try:
            asked = ask(
                url,
                body,
                on_text=lambda piece: click.echo(piece, nl=False),
                on_wait=lambda sign: click.echo(f"({sign})", err=True),
            )
        except KeyboardInterrupt:
            click.echo("\n(stopped)", err=True)
            return True
        except CatenaError as error:
            click.echo(f"error: {error.message}", err=True)
            is_too_long = isinstance(error, ContextError | InputError)
            click.echo(f"hint: {error.hint or ('/new starts over' if is_too_long else 'try again')}", err=True)
            self._receipt = error.receipt or self._receipt
            return not isinstance(error, NetworkError)
        click.echo()
        self._messages += [question, {"role": "assistant", "content": asked.answer}]
        self._receipt = asked.receipt
        return True
