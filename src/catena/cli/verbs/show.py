"""`catena show`: one model, its manifest, files and facts."""

from __future__ import annotations

import click
import msgspec

from catena.cli.chain import open_store
from catena.core import config
from catena.core.manifest import StoredModel
from catena.core.units import bytes_text


@click.command(name="show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, as_json: bool) -> None:
    """Show model NAME (a name, a digest, or `default`): what it is, where it comes from, what it consists of."""
    if name == "default":
        name = config.load(config.home()).settings.reach.default_model
    with open_store() as store:
        model = store.resolve(name)
    if as_json:
        click.echo(msgspec.json.encode({"digest": model.digest, "manifest": model.manifest}))
        return
    _print(model)


def _print(model: StoredModel) -> None:
    manifest = model.manifest
    provenance = manifest.provenance
    click.echo(click.style(manifest.name, bold=True))
    rows = {
        "digest": model.digest,
        "task": manifest.task,
        "format": manifest.format,
        "licence": manifest.licence,
        "chat template": manifest.chat_template_digest or "",
        "source": provenance.source,
        "source digest": provenance.source_digest or "",
        "made from": ", ".join(provenance.parents),
        "recipe": provenance.recipe or "not recorded",
        "training hardware": provenance.sentinel or "not recorded",
        "compression": provenance.compression or "not recorded",
    }
    _table({name: value for name, value in rows.items() if value})
    if manifest.facts:
        click.echo("\nfacts")
        _table({key: str(value) for key, value in sorted(manifest.facts.items())})
    for title, tensors in (("inputs", manifest.signature.inputs), ("outputs", manifest.signature.outputs)):
        if tensors:
            click.echo(f"\n{title}")
            _table({one.name: f"{one.dtype} {list(one.shape)} {one.unit}" for one in tensors})
    click.echo("\nfiles")
    _table({file.name: f"{file.role}, {bytes_text(file.size_bytes)}, {file.digest}" for file in manifest.files})


def _table(rows: dict[str, str]) -> None:
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        click.echo(f"  {name:<{width}}{value}")
