"""scikit-learn models out of .skops files: the numbers of the library itself, and nothing in the file is ever run."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from catena.core.errors import FormatError, InputError, ResourceError, UnsupportedError
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.messages import PredictRequest, Tensor
from catena.core.protocols import Placement
from catena.run.engines.sklearn import Engine
from catena.run.predicting.arrays import array_of
from catena.store import formats

pytestmark = pytest.mark.anyio
ROWS, LABELS = load_iris(return_X_y=True)
NAMES = numpy.array(["setosa", "versicolor", "virginica"])[LABELS]
LENGTHS = ROWS @ numpy.array([0.5, -1.0, 2.0, 0.25])


def saved(path: Path, fitted: Any) -> StoredModel:
    skops.io.dump(fitted, path)
    return described(path)


def described(path: Path) -> StoredModel:
    facts = formats.find("skops").describe({"weights": path})
    entry = FileEntry("weights", path.name, path.stat().st_size, "sha256:" + "0" * 64)
    manifest = Manifest("m", facts.task, "skops", (entry,), "", Provenance("test"), facts.signature, facts=facts.values)
    return StoredModel(manifest, "sha256:" + "0" * 64, {path.name: path})


async def answers(model: StoredModel, rows: Any) -> dict[str, Any]:
    assert Engine().accepts(model) is None
    session = await Engine().load(model, Placement())
    array = numpy.ascontiguousarray(rows, dtype="<f8")
    try:
        found = await session.predict(PredictRequest("m", (Tensor("x", "FP64", array.shape, array.tobytes()),)))
    finally:
        await session.close()
    return {one.name: array_of(one) for one in found.outputs}


FITTED: dict[str, Callable[[], Any]] = {
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(ROWS, LABELS),
    "forest that wants all cores": lambda: RandomForestClassifier(5, n_jobs=-1, random_state=0).fit(ROWS, LABELS),
    "boosted trees over bins": lambda: HistGradientBoostingClassifier(max_iter=5).fit(ROWS, LABELS),
    "labels that are texts": lambda: LogisticRegression(max_iter=500).fit(ROWS, NAMES),
    "labels that are objects": lambda: LogisticRegression(max_iter=500).fit(ROWS, NAMES.astype(object)),
    "no probabilities": lambda: LinearSVC().fit(ROWS, LABELS),
    "none asked for": lambda: SVC().fit(ROWS, LABELS),
}


@pytest.mark.parametrize("fitted", list(FITTED))
async def test_labels_and_probabilities_are_those_of_the_library(fitted: str, tmp_path: Path) -> None:
    model = FITTED[fitted]()
    found = await answers(saved(tmp_path / "m.skops", model), ROWS)
    assert [str(each) for each in found["label"]] == [str(each) for each in model.predict(ROWS)]
    assert ("probabilities" in found) is hasattr(model, "predict_proba")
    if "probabilities" in found:
        assert found["probabilities"] == pytest.approx(model.predict_proba(ROWS), abs=1e-12)


@pytest.mark.parametrize("kind", [GradientBoostingRegressor, RandomForestRegressor])
async def test_values_are_those_of_the_library(kind: Any, tmp_path: Path) -> None:
    model = kind(n_estimators=5, random_state=0).fit(ROWS, LENGTHS)
    found = await answers(saved(tmp_path / "m.skops", model), ROWS)
    assert list(found) == ["value"]
    assert found["value"] == pytest.approx(model.predict(ROWS), abs=1e-12)


async def test_rows_that_come_at_the_same_time_may_be_one_run(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.skops", RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS))
    session = await Engine().load(model, Placement())
    assert session.can_share
    await session.close()


@pytest.mark.parametrize("row", [[1.0, 2.0, 3.0], [float("inf")] * 4], ids=["too few numbers", "endless numbers"])
async def test_rows_that_the_model_cannot_take_are_the_callers_error(row: list[float], tmp_path: Path) -> None:
    model = saved(tmp_path / "m.skops", FITTED["pipeline"]())
    with pytest.raises(InputError):
        await answers(model, [row])


async def test_a_file_that_names_code_to_run_is_refused_by_the_name_and_not_run(tmp_path: Path) -> None:
    fitted = make_pipeline(FunctionTransformer(), LogisticRegression(max_iter=500)).fit(ROWS, LABELS)
    fitted.steps[0][1].func = os.system
    model = saved(tmp_path / "m.skops", fitted)
    with pytest.raises(UnsupportedError, match="system"):
        await Engine().load(model, Placement())


async def test_a_function_of_numpy_that_runs_code_is_not_trusted_for_its_package(tmp_path: Path) -> None:
    from numpy.testing import runstring

    fitted = make_pipeline(FunctionTransformer(), LogisticRegression(max_iter=500)).fit(ROWS, LABELS)
    fitted.steps[0][1].func = runstring
    with pytest.raises(UnsupportedError, match="runstring"):
        await Engine().load(saved(tmp_path / "m.skops", fitted), Placement())


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> StoredModel:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return described(path)


async def test_a_tree_that_leads_outside_itself_is_refused_before_it_is_walked(tmp_path: Path) -> None:
    fitted = RandomForestClassifier(1, random_state=0).fit(ROWS, LABELS)
    path = tmp_path / "m.skops"
    skops.io.dump(fitted, path)

    def bend(entries: dict[str, bytes]) -> None:
        for name, data in entries.items():
            if b"left_child" in data[:256]:
                at = data.index(b"\n") + 1
                entries[name] = data[:at] + (10**6).to_bytes(8, "little") + data[at + 8 :]
                return
        raise AssertionError("there are no nodes")

    with pytest.raises(FormatError):
        await Engine().load(rewritten(path, bend), Placement())


@pytest.mark.parametrize("damage", ["cut", "noise", "no schema", "deep", "bomb"])
def test_files_that_no_library_wrote_are_told_as_that(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "m.skops"
    skops.io.dump(FITTED["pipeline"](), path)
    with pytest.raises(FormatError):
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        elif damage == "noise":
            path.write_bytes(bytes(range(256)) * 64)
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                deep = {"deep": "[" * 900 + "]" * 900, "bomb": json.dumps({"a": " " * (64 << 20)})}
                archive.writestr("schema.json" if damage != "no schema" else "other", deep.get(damage, "{}"))
        described(path)


async def test_what_it_does_not_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.skops", FITTED["pipeline"]())
    with pytest.raises(ResourceError):
        await Engine().load(model, Placement(device="gpu"))
    onnx = Manifest("m", "predict", "onnx", (), "", Provenance("test"))
    assert "not onnx" in (Engine().accepts(StoredModel(onnx, model.digest, {})) or "")
