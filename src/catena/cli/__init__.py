"""The command line: finds a verb by name, loads only that verb, and turns errors into a sentence and a code."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from catena.core import registry
from catena.core.errors import EXIT_CODE, CatenaError, NotFoundError, leaves

# The order in which a newcomer meets the verbs; plug-ins come after, by name.
SUMMARIES = {
    "up": "Serve models on this machine until interrupted.",
    "ask": "Ask one question and print the answer.",
    "chat": "Talk with a model in the terminal.",
    "batch": "Ask many questions of a file, behind whoever else asks.",
    "transcribe": "Write down the speech of an audio file.",
    "pull": "Fetch a model, verify it and store it.",
    "serve_model": "Register a model file, and say what can serve it.",
    "models": "List the models on this machine.",
    "show": "Show one model: manifest, files, facts.",
    "verify": "Check a model's signature and every byte of its files.",
    "convert": "Bring a model into another format, or its weights into another form.",
    "export": "Lay a model out for Ollama, LM Studio, llama.cpp and others.",
    "rm": "Remove a model's name.",
    "gc": "Free the space of files that no model needs.",
    "trace": "Show the whole chain behind one answer.",
    "policy": "Check, explain and simulate what may leave this machine.",
    "privacy": "Find what is private in texts, say what may leave, replace it.",
    "route": "Learn which prompts need the strong model, score them, evaluate it.",
    "egress": "Show, prove and replay what left for a provider.",
    "forget": "Forget a text, a person, a conversation or all of a key, everywhere.",
    "vault": "Show how what is kept here is locked, and lock it anew.",
    "audit": "Show, prove, verify or export the audit log.",
    "keys": "Make, list and revoke API keys.",
    "config": "Show the settings and where each comes from.",
    "doctor": "Tell what this machine has and what is missing.",
    "tour": "Pull, serve, ask one question and show its receipt.",
    "completion": "Print a script that completes commands in a shell.",
}


class Verbs(click.Group):
    """A group whose commands live in one file each and are imported only when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = registry.names("verbs")
        known = [name for name in SUMMARIES if name in found]
        # A verb of two words is written with a dash; its file has an underscore.
        return [name.replace("_", "-") for name in known + [name for name in found if name not in SUMMARIES]]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            command: click.Command = registry.find("verbs", cmd_name.replace("-", "_"))
        except NotFoundError:
            return None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, SUMMARIES.get(name.replace("-", "_"), "(plug-in)")) for name in self.list_commands(ctx)]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


@click.command(cls=Verbs, name="catena", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="catena")
def catena() -> None:
    """A model's whole life as one chain that can be checked link by link."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit. Codes: 0 good, 1 a check failed, 2 wrong use, else core.errors.EXIT_CODE."""
    try:
        code = catena.main(arguments, prog_name="catena", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except CatenaError as error:
        sys.exit(_tell(error))
    except BaseExceptionGroup as group:
        # Errors that passed a task group on their way here.
        for leaf in leaves(group):
            if isinstance(leaf, CatenaError):
                sys.exit(_tell(leaf))
        if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(group)):
            sys.exit(130)
        raise
    except click.exceptions.Exit as exit:
        sys.exit(exit.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away: nothing more to say, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)


def _tell(error: CatenaError) -> int:
    """Print what went wrong and what to do next; gives the exit code."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    if error.receipt:
        click.echo(f"receipt: {error.receipt}", err=True)
    return EXIT_CODE.get(error.code, 70)
