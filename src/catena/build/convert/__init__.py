"""Converts stored models: one file per pair of formats, named FROM_to_TO, loaded by name with the library it needs."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from catena.core.errors import EngineError, NotFoundError, UnsupportedError
from catena.core.manifest import Provenance, StoredModel
from catena.store import Row, Store
from catena.store.rows import Report


class Measure(Struct, frozen=True):
    """How near the child is to its parent: what was compared, and the number; `is_good` whether that is near enough."""

    what: str
    value: float
    is_good: bool


class Expected(Struct, frozen=True):
    """What the parent says comes after some tokens: the natural-log probability of the likeliest, by their bytes."""

    tokens: tuple[int, ...]
    logprobs: dict[bytes, float]


class Made(Struct, frozen=True):
    """A finished conversion: library with version, what was measured, and, of a parent that no engine here can run,
    what it would answer."""

    converter: str
    measures: tuple[Measure, ...]
    expected: tuple[Expected, ...] = ()


class Converted(Struct, frozen=True):
    """The stored child, and what its conversion said."""

    row: Row
    made: Made


class Conversion(Protocol):
    """A module here. `QUANTISATIONS`: the forms of weights that it can write, the default first."""

    QUANTISATIONS: tuple[str, ...]

    def convert(self, model: StoredModel, folder: Path, quantise: str, report: Report, /) -> Made:
        """Write the child's weights into `folder`, where the companions of its format lie already.

        Raises UnsupportedError for what it cannot convert, MissingExtraError.
        """
        ...


def pairs() -> list[tuple[str, str]]:
    """Every (from, to) that there is a file for."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [(first, last) for first, _, last in (name.partition("_to_") for name in names) if last]


def find(source: str, target: str) -> Conversion:
    """The conversion between two formats. Raises UnsupportedError with those that there are, MissingExtraError."""
    if (source, target) not in pairs():
        known = ", ".join(last for first, last in pairs() if first == source) or "nothing"
        raise UnsupportedError(f"{source} cannot be converted to {target} here", hint=f"{source} can become: {known}")
    module: Conversion = importlib.import_module(f"{__name__}.{source}_to_{target}")  # type: ignore[assignment]
    return module


def convert(
    store: Store, parent: str, target: str, name: str, quantise: str | None, workspace: Path, report: Report
) -> Converted:
    """Make a model called `name` of the stored `parent`, in the format `target`; files grow in `workspace`.

    Nothing is stored that does not parse, or that is not near its parent by the conversion's own measure. Raises
    NotFoundError, UnsupportedError, MissingExtraError, ConflictError; EngineError for a child that is not near.
    """
    model = store.resolve(parent)
    conversion = find(model.manifest.format, target)
    form = _form(conversion, quantise)
    workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-", dir=workspace) as made_in:
        folder = Path(made_in) / name
        folder.mkdir()
        _bring_companions(model, folder, target)
        made = conversion.convert(model, folder, form, report)
        for measure in made.measures:
            if not measure.is_good:
                raise EngineError(f"the child is not near its parent: {measure.what} {measure.value:.4g}")
        recipe = f"{made.converter}: {model.manifest.format} to {target}, quantise={form}"
        provenance = Provenance(f"model:{model.name}", parents=(model.digest,), recipe=recipe)
        facts = {key: value for key, value in model.manifest.facts.items() if key.startswith("preset.")}
        if made.measures:
            facts["agreement"] = "; ".join(f"{measure.what}: {measure.value:.6g}" for measure in made.measures)
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o400)  # the store may link what it takes
        return Converted(store.build(folder, name, provenance, facts, model.manifest.licence), made)


def _form(conversion: Conversion, quantise: str | None) -> str:
    known = {form.lower(): form for form in conversion.QUANTISATIONS}
    if quantise is not None and quantise.lower() not in known:
        raise NotFoundError(f"{quantise!r} is not a form of weights here", hint=f"known: {', '.join(known.values())}")
    return known[quantise.lower()] if quantise else conversion.QUANTISATIONS[0]


# What of a model's other files goes along, by the child's format: those that its readers know.
_COMPANIONS: Mapping[str, frozenset[str]] = {
    "gguf": frozenset({"template", "projector"}),
    "onnx": frozenset({"tokenizer", "config", "pooling", "signature"}),
    "openvino": frozenset({"tokenizer", "tokenizer_config", "config", "pooling", "special_tokens", "generation"}),
}


def _bring_companions(model: StoredModel, folder: Path, target: str) -> None:
    for entry in model.manifest.files:
        if entry.role in _COMPANIONS.get(target, ()):
            (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.paths[entry.name], folder / entry.name)
