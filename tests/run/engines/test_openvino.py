"""OpenVINO: devices by their names and what really runs, IR and ONNX alike, and what it says of what it cannot run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy
import openvino
import pytest
from tests import graphs
from tests.conformance.conftest import stored

from catena.core.errors import FormatError, InputError, ResourceError
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.messages import EmbedRequest, PredictRequest, Tensor
from catena.core.protocols import Placement
from catena.run.engines import onnx
from catena.run.engines.openvino import Engine, runtime
from catena.run.predicting.arrays import array_of
from catena.store import formats

pytestmark = pytest.mark.anyio
Load = Callable[..., Awaitable[Any]]


def as_ir(folder: Path, data: bytes, name: str = "m") -> StoredModel:
    """An ONNX graph as OpenVINO IR, with the manifest that the store would give it."""
    path = folder / f"{name}.xml"
    openvino.save_model(openvino.convert_model(str(graphs.write(folder, name, data))), path, compress_to_fp16=False)
    return described(path)


def described(path: Path) -> StoredModel:
    paths = {path.name: path, path.with_suffix(".bin").name: path.with_suffix(".bin")}
    by_role = formats.by_role([("weights", name, each) for name, each in paths.items()])
    facts = formats.find("openvino").describe(by_role)
    entries = tuple(
        FileEntry("weights", name, each.stat().st_size, "sha256:" + "0" * 64) for name, each in paths.items()
    )
    manifest = Manifest("m", facts.task, "openvino", entries, "", Provenance("test"), facts.signature)
    return StoredModel(manifest, "sha256:" + "0" * 64, paths)


@pytest.fixture
async def load(anyio_backend: str) -> AsyncGenerator[Load]:
    opened: list[Any] = []

    async def one(model: StoredModel, **wishes: Any) -> Any:
        assert Engine().accepts(model) is None
        opened.append(await Engine().load(model, Placement(**wishes)))
        return opened[-1]

    yield one
    for session in opened:
        await session.close()


def floats(name: str, rows: Any) -> Tensor:
    array = numpy.asarray(rows, dtype="<f4")
    return Tensor(name, "FP32", array.shape, array.tobytes())


async def test_ir_answers_what_onnx_runtime_answers_for_the_graph_it_is_made_of(load: Load, tmp_path: Path) -> None:
    graph = graphs.mlp(64, 128, 10)
    model = as_ir(tmp_path, graph)
    request = PredictRequest("m", (floats("x", numpy.random.default_rng(0).standard_normal((7, 64))),))
    found = (await (await load(model)).predict(request)).outputs
    other = msgspec.structs.replace(model.manifest, format="onnx")
    path = tmp_path / "m" / "m.onnx"
    file = msgspec.structs.replace(other.files[0], name=path.name)
    reference = StoredModel(msgspec.structs.replace(other, files=(file,)), model.digest, {path.name: path})
    session = await onnx.Engine().load(reference, Placement())
    expected = (await session.predict(request)).outputs
    await session.close()
    assert [one.name for one in found] == [one.name for one in expected] == ["p", "label"]
    assert array_of(found[0]) == pytest.approx(array_of(expected[0]), rel=1e-4, abs=1e-6)
    assert found[1] == expected[1]


async def test_the_device_stated_is_the_one_that_runs_the_model(load: Load, tmp_path: Path) -> None:
    model = as_ir(tmp_path, graphs.mlp())
    for wanted in ("cpu", "auto"):
        session = await load(model, device=wanted)
        assert session.facts.device in {each.lower() for each in openvino.Core().available_devices}
        assert (await session.predict(PredictRequest("m", (floats("x", numpy.ones((1, 4))),)))).outputs[0].shape == (
            1,
            3,
        )


class Machine:
    """A machine with other devices than this one: only what is listed is made up."""

    available_devices = ("CPU", "GPU.0", "GPU.1", "NPU")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("cpu", "CPU"), ("gpu", "GPU"), ("gpu.1", "GPU.1"), ("npu", "NPU"), ("auto", "AUTO")],
)
def test_devices_are_chosen_by_their_name_in_small_letters(wanted: str, name: str) -> None:
    assert runtime.device(wanted, Machine()) == name


@pytest.mark.parametrize("wanted", ["gpu.2", "cpu.1", "tpu", "AUTO:GPU", "HETERO:GPU,CPU", "", "GPU"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(wanted: str) -> None:
    with pytest.raises(ResourceError) as caught:
        runtime.device(wanted, Machine())
    assert "cpu, gpu.0, gpu.1, npu" in caught.value.hint


async def test_a_device_that_fails_to_take_the_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "device", lambda wanted, core: "NPU")
    with pytest.raises(ResourceError, match="npu"):
        await Engine().load(as_ir(tmp_path, graphs.mlp()), Placement(device="npu"))


async def test_requests_at_the_same_time_share_a_run_where_rows_do_not_touch(load: Load, tmp_path: Path) -> None:
    assert (await load(as_ir(tmp_path, graphs.mlp(), "apart"))).can_share
    assert not (await load(as_ir(tmp_path, graphs.centred(), "touching"))).can_share
    nodes = [graphs.node("DynamicQuantizeLinear", "x", "q s z"), graphs.node("DequantizeLinear", "q s z", "y")]
    ports = [graphs.port("x", graphs.FLOAT, ("n", 4))], [graphs.port("y", graphs.FLOAT, ("n", 4))]
    assert not (await load(as_ir(tmp_path, graphs.model(nodes, *ports), "quantising"))).can_share


async def test_shapes_that_the_model_cannot_take_are_the_callers_error(load: Load, tmp_path: Path) -> None:
    session = await load(as_ir(tmp_path, graphs.mlp()))
    for wrong in (numpy.ones((1, 5)), numpy.ones(4)):
        with pytest.raises(InputError):
            await session.predict(PredictRequest("m", (floats("x", wrong),)))
    assert (await session.predict(PredictRequest("m", (floats("x", numpy.ones((2, 4))),)))).num_rows == 2


@pytest.mark.parametrize("damage", ["cut weights", "no weights", "another graph"])
async def test_files_that_do_not_fit_are_told_as_that(tmp_path: Path, damage: str) -> None:
    model = as_ir(tmp_path, graphs.mlp())
    weights = model.paths["m.bin"]
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:10])
    elif damage == "no weights":
        weights.unlink()
    else:
        signature = as_ir(tmp_path, graphs.identity(graphs.FLOAT), "o").manifest.signature
        model = StoredModel(msgspec.structs.replace(model.manifest, signature=signature), model.digest, model.paths)
    with pytest.raises(FormatError):
        await Engine().load(model, Placement())


def test_models_that_others_are_for_are_refused_with_the_reason() -> None:
    def reason(task: Any, form: str) -> str:
        manifest = Manifest("m", task, form, (), "", Provenance("test"))
        return Engine().accepts(StoredModel(manifest, "sha256:" + "0" * 64, {})) or ""

    assert "not gguf" in reason("generate", "gguf")
    assert "onnx models that predict only" in reason("embed", "onnx")
    assert "does not transcribe" in reason("transcribe", "openvino")


async def test_an_encoder_as_ir_gives_the_vectors_of_the_encoder_it_is_made_of(
    load: Load, encoder: StoredModel, bge: Any, tmp_path: Path
) -> None:
    path = tmp_path / "openvino_model.xml"
    openvino.save_model(openvino.convert_model(str(encoder.path("weights"))), path, compress_to_fp16=False)
    tokenizer = next(file for file in encoder.manifest.files if file.role == "tokenizer")
    made = described(path)
    manifest = msgspec.structs.replace(
        encoder.manifest, format="openvino", files=(*made.manifest.files, tokenizer), signature=made.manifest.signature
    )
    session = await load(
        StoredModel(manifest, made.digest, {**made.paths, tokenizer.name: encoder.paths[tokenizer.name]})
    )
    request = EmbedRequest("m", ("The cat sat on the mat.", "Prices rose by three per cent."))
    found, expected = await session.embed(request), await bge.session.embed(request)
    for got, wanted in zip(found.vectors, expected.vectors, strict=True):
        # The weights are the same, but activations are rounded to 8 bits at other places.
        assert float(numpy.frombuffer(got, "<f4") @ numpy.frombuffer(wanted, "<f4")) > 0.99
    assert found.usage == expected.usage


def test_the_suites_run_a_stored_model_in_ir() -> None:
    assert stored("classifier-ir").manifest.format == "openvino"
