"""`catena privacy gate`: whether each text of a file must stay here, may go with stand-ins, or may go; and why."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from catena.cli.lines import Row, read_lines, text_of, write_lines
from catena.core import config
from catena.core.errors import InputError, TooLargeError
from catena.reach.privacy.context.fitting import MAX_EXAMPLES, Example, fitted
from catena.reach.privacy.context.judge import RECALL, Judgement
from catena.reach.privacy.context.model import TUNED, shipped, write_model
from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.pseudonyms.table import FIXED
from catena.reach.privacy.scanning import Scanner, scanner


@click.command(name="gate")
@click.option("--jsonl", "source", help='Lines of {"id", "text"}; "-": standard input.')
@click.option("--out", "output", default="-", show_default=True, help="Where the lines with decisions go.")
@click.option(
    "--recall",
    type=click.FloatRange(0.5, 1.0),
    default=RECALL,
    show_default=True,
    help="The share of private texts to keep; more keeps more open ones too.",
)
@click.option("--fit", "examples", help='Tune it first with lines of {"text", "label": "private" or "open"}.')
@click.option("--reset", is_flag=True, help="Forget what it was tuned with.")
def command(source: str | None, output: str, recall: float, examples: str | None, reset: bool) -> None:
    """Decide for each text: local, pseudonymise or remote, with a score and the reasons that weighed most.

    `score` is the probability that the text speaks of what must stay here: own code, plans, staff, customers, health,
    legal matters, keys, or an attack. Only a text that does not, is scanned for names and numbers: one with passages
    that stand-ins can replace is `pseudonymise`. What cannot be judged is local. Nothing leaves this machine.

    --fit starts from what ships every time, so give it all your examples; neighbouring lines count as of one topic.
    """
    if not (source or examples or reset):
        raise InputError("nothing to do", hint="name texts with --jsonl, or examples with --fit")
    if reset:
        (config.home() / TUNED).unlink(missing_ok=True)
    if examples:
        rows = _examples(examples)
        write_model(config.open_home() / TUNED, fitted(shipped(), rows))
        num_private = sum(row.label == "private" for row in rows)
        click.echo(f"fitted with {num_private} private and {len(rows) - num_private} open examples", err=True)
    if source:
        judgement, find = Judgement.of(config.home()), scanner()
        with write_lines(output) as write:
            for row in read_lines(source):
                write(_decided(row, judgement, find, recall))


def _decided(row: Row, judgement: Judgement, find: Scanner, recall: float) -> Row:
    text = text_of(row)
    judged = judgement.judge(text, recall)
    decision, reason = "remote", "; ".join(judged.reasons)
    if judged.is_private:
        decision = "local"
    else:
        try:
            types = dict.fromkeys(span.type for span in find.scan(text))
        except TooLargeError:
            decision, reason, types = "local", "too long to be looked through", {}
        if types:
            is_fixed = any(KINDS[one].group in FIXED for one in types)
            decision = "local" if is_fixed else "pseudonymise"
            reason = "holds " + ", ".join(types)
    return {"id": row.get("id"), "decision": decision, "score": round(judged.score, 4), "reason": reason}


def _examples(source: str) -> list[Example]:
    found: list[Example] = []
    for number, row in enumerate(read_lines(source), 1):
        found.append(_example(row, source, number))
        if number > MAX_EXAMPLES:
            raise TooLargeError(
                f"{source} has more than {MAX_EXAMPLES:,} examples", hint="choose the most telling ones"
            )
    return found


def _example(row: dict[str, Any], source: str, number: int) -> Example:
    try:
        return msgspec.convert(row, Example)
    except msgspec.ValidationError as error:
        hint = 'a line is {"text": …, "label": "private"} or {"text": …, "label": "open"}'
        raise InputError(f"{source}, example {number}: {error}", hint=hint) from error
