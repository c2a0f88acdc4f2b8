"""`catena completion`: a script that lets a shell complete verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from catena.core.errors import InputError


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL, e.g. `eval "$(catena completion bash)"`."""
    kind = get_completion_class(shell)
    if kind is None:
        raise InputError(f"no completion for {shell!r}")
    click.echo(kind(ctx.find_root().command, {}, "catena", "_CATENA_COMPLETE").source())
