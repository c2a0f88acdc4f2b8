"""Units of inputs and outputs: from the model's own metadata, or from a signature.toml beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests import graphs

from catena.core.errors import FormatError, UnsupportedError
from catena.store import Store
from catena.store.formats import onnx as reader


def units(paths: dict[str, Path]) -> dict[str, str]:
    signature = reader.describe(paths).signature
    return {port.name: port.unit for port in (*signature.inputs, *signature.outputs)}


def test_units_come_from_the_metadata_of_the_model(tmp_path: Path) -> None:
    path = graphs.write(tmp_path, "m", graphs.mlp())
    assert units({"weights": path}) == {"x": "K", "p": "1", "label": "1"}


def test_signature_toml_says_it_for_models_that_do_not_and_wins(
    open_store: Callable[..., Store], tmp_path: Path
) -> None:
    path = graphs.write(tmp_path, "fan", graphs.mlp())
    (path.parent / "signature.toml").write_text('[units]\nx = "degC"\np = "m^3/s"\n')
    manifest = open_store().pull(str(path)).row.manifest
    assert manifest.task == "predict"
    assert [(port.name, port.shape, port.unit) for port in manifest.signature.inputs] == [("x", (-1, 4), "degC")]
    assert [port.unit for port in manifest.signature.outputs] == ["m^3/s", "1"]
    assert {file.role for file in manifest.files} == {"weights", "signature"}


@pytest.mark.parametrize(
    "text",
    [
        '[units]\ny = "K"',
        '[units]\nx = "parsec"',
        "[units]\nx = 1",
        "x",
        "[unit]\n",
        '[units]\nx = "K"\n[more]\n',
        "\xff",
    ],
)
def test_a_signature_that_fits_nothing_is_refused(tmp_path: Path, text: str) -> None:
    path = graphs.write(tmp_path, "m", graphs.mlp())
    stated = path.parent / "signature.toml"
    stated.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError):
        reader.describe({"weights": path, "signature": stated})


@pytest.mark.parametrize(("name", "unit"), [("unit__x", "parsec"), ("unit__nothing", "K")])
def test_metadata_that_name_no_unit_or_no_port_are_refused(tmp_path: Path, name: str, unit: str) -> None:
    data = graphs.identity(graphs.FLOAT) + graphs.field(
        14, graphs.field(1, name.replace("__", ":").replace("unit:x", "unit:x0")) + graphs.field(2, unit)
    )
    with pytest.raises(FormatError):
        reader.describe({"weights": graphs.write(tmp_path, "m", data)})


def test_other_metadata_however_long_do_not_matter(tmp_path: Path) -> None:
    note = graphs.field(1, "notes") + graphs.field(2, "x" * 100_000)
    path = graphs.write(tmp_path, "m", graphs.mlp() + graphs.field(14, note))
    assert units({"weights": path})["x"] == "K"


def test_outputs_that_are_maps_or_sequences_are_refused_with_the_way_out(tmp_path: Path) -> None:
    sequence = graphs.field(1, "p") + graphs.field(2, graphs.field(4, b""))
    data = graphs.model([graphs.node("Identity", "x", "p")], [graphs.port("x", 1, ("n", 4))], [sequence])
    with pytest.raises(UnsupportedError) as caught:
        reader.describe({"weights": graphs.write(tmp_path, "m", data)})
    assert "zipmap" in caught.value.hint
