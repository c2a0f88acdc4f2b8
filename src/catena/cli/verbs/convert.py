"""`catena convert`: a stored model in another format or form of weights, measured against its parent."""

from __future__ import annotations

import click
import msgspec

from catena.build import convert
from catena.cli.agreement import compared
from catena.cli.chain import open_store
from catena.cli.progress import shown
from catena.core import config
from catena.core.errors import EngineError, NotFoundError
from catena.core.units import bytes_text


@click.command(name="convert")
@click.argument("source")
@click.option("--to", "target", required=True, type=click.Choice(sorted({last for _, last in convert.pairs()})))
@click.option("--name", required=True, help="What to call the new model.")
@click.option("--quantise", help="Form of the weights: Q8_0, F16, Q4_0 …; of onnx int8; of openvino F16, F32.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(source: str, target: str, name: str, quantise: str | None, as_json: bool) -> None:
    """Convert SOURCE, a stored model or anything that `catena pull` takes, to another format.

    The new model names SOURCE as its parent. What was written is read again and compared with it: by weights or
    outputs, and by what both say in an engine. A model that is not near its parent is not kept.
    """
    home = config.open_home()
    settings = config.load(home).settings
    with open_store() as store, shown() as display:
        try:
            store.digest(source)
        except NotFoundError:
            source = store.pull(source, progress=display).row.name
        done = convert.convert(store, source, target, name, quantise, home / "run", display)
        child, parent = store.resolve(name), store.resolve(source)
        measure = compared(child, parent, done.made.expected, settings.run, home)
        if measure is not None and not measure.is_good:
            store.remove(name)
            raise EngineError(f"the new model does not say what its parent says: {measure.what} {measure.value:.3g}")
    measures = [*done.made.measures, *([measure] if measure else [])]
    if as_json:
        row = {"row": done.row, "converter": done.made.converter, "measures": measures}
        click.echo(msgspec.json.encode(row))
        return
    row = done.row
    size = bytes_text(row.size_bytes)
    click.echo(f"{row.name}  {row.manifest.task}  {row.manifest.format}  {size}  {row.digest}  ({done.made.converter})")
    for one in measures:
        click.echo(f"  {one.what}: {one.value:.4g}")
    if not measures:
        click.echo("  not compared with its parent: no engine here runs both, or made inputs do not fit", err=True)
