"""Small models that the suites make themselves, for engines that no model of the catalogue is for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import graphs

from catena.core.manifest import FileEntry, Manifest, Provenance, Signature, TensorSpec

MLP = Signature(
    (TensorSpec("x", "float32", (-1, 4)),),
    (TensorSpec("p", "float32", (-1, 3)), TensorSpec("label", "int64", (-1,))),
)


def openvino_classifier(folder: Path) -> Path:
    """The network of `graphs.mlp` as OpenVINO IR."""
    import openvino

    path = folder / "classifier.xml"
    source = graphs.write(folder.with_name(f"{folder.name}.onnx"), "mlp", graphs.mlp())
    openvino.save_model(openvino.convert_model(str(source)), path, compress_to_fp16=False)
    return path


NO_PORTS = Signature()
MAKERS: dict[str, Callable[[Path], Path]] = {"classifier-ir": openvino_classifier}


def card(name: str, task: Any, form: str, *roles: str, signature: Signature = NO_PORTS) -> Manifest:
    """As much of a made model's manifest as an engine looks at to accept it."""
    files = tuple(FileEntry(role, role, 1, "sha256:" + "0" * 64) for role in roles)
    return Manifest(name, task, form, files, "", Provenance("test"), signature)


CARDS = (card("classifier-ir", "predict", "openvino", "weights", signature=MLP),)


def made(folder: Path, name: str) -> Path:
    """What the store is to pull: the model called `name`, made once."""
    home = folder / name
    draft = folder / f"{name}.draft"
    if not home.exists():
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        MAKERS[name](draft)
        draft.rename(home)
    return home
