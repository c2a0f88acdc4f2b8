"""`catena route fit`: learn from outcomes which prompts need the strong model."""

from __future__ import annotations

import click

from catena.cli.outcomes import read_outcomes
from catena.reach.routing.fitting import fitted


@click.command(name="fit")
@click.argument("train")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The small file to write.")
def command(train: str, output: str) -> None:
    """Fit to TRAIN: lines of {"prompt", "weak", "strong"}, the quality of each model's answer from 0 to 1.

    The file holds weights and where they are from, no text of any prompt.
    """
    rows, digest = read_outcomes(train)
    fitted(rows, digest).save(output)
    click.echo(f"fitted to {len(rows):,} outcomes: {output}", err=True)
