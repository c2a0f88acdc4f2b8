"""Any ONNX model as a predictor: data types, rows that may share a run, values it cannot take, and cancelling."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from tests import graphs

from catena.core.errors import EngineError, FormatError, InputError
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.messages import Prediction, PredictRequest, Tensor
from catena.core.protocols import Placement
from catena.run.engines import onnx
from catena.run.predicting.arrays import array_of
from catena.store import formats

pytestmark = pytest.mark.anyio
Load = Callable[..., Awaitable[Any]]


def modelled(path: Path) -> StoredModel:
    """The file at `path` with the manifest that the store would give it."""
    facts = formats.find("onnx").describe({"weights": path})
    entry = FileEntry("weights", path.name, path.stat().st_size, "sha256:" + "0" * 64)
    manifest = Manifest("m", facts.task, "onnx", (entry,), "", Provenance("test"), facts.signature, facts=facts.values)
    return StoredModel(manifest, "sha256:" + "0" * 64, {path.name: path})


@pytest.fixture
async def load(anyio_backend: str, tmp_path: Path) -> AsyncGenerator[Load]:
    opened: list[Any] = []

    async def one(data: bytes, **wishes: Any) -> Any:
        model = modelled(graphs.write(tmp_path, f"m{len(opened)}", data))
        assert onnx.Engine().accepts(model) is None
        opened.append(await onnx.Engine().load(model, Placement(**wishes)))
        return opened[-1]

    yield one
    for session in opened:
        await session.close()


def floats(name: str, rows: Any, dtype: str = "FP32") -> Tensor:
    array = numpy.asarray(rows, dtype={"FP32": "<f4", "INT64": "<i8"}[dtype])
    return Tensor(name, dtype, array.shape, array.tobytes())


async def ask(session: Any, *inputs: Tensor, outputs: tuple[str, ...] = ()) -> Prediction:
    return await session.predict(PredictRequest("m", inputs, outputs))


async def together(session: Any, requests: list[tuple[Tensor, ...]]) -> list[Any]:
    return await asyncio.gather(*[ask(session, *inputs) for inputs in requests], return_exceptions=True)


@pytest.mark.parametrize(
    ("number", "name", "data"),
    [
        (graphs.FLOAT, "FP32", struct.pack("<4f", 0.1, -2.5, float("inf"), float("nan"))),
        (graphs.DOUBLE, "FP64", struct.pack("<4d", 0.1, -2.5, 1e300, 5e-324)),
        (graphs.HALF, "FP16", struct.pack("<4e", 0.1, -2.5, 65504, 0)),
        (graphs.INT64, "INT64", struct.pack("<4q", -(2**63), 2**63 - 1, 0, 1)),
        (graphs.INT32, "INT32", struct.pack("<4i", -(2**31), 2**31 - 1, 0, 1)),
        (graphs.INT8, "INT8", bytes([0, 1, 127, 128])),
        (graphs.BOOL, "BOOL", bytes([0, 1, 1, 0])),
        (2, "UINT8", bytes([0, 1, 254, 255])),
        (4, "UINT16", struct.pack("<4H", 0, 1, 2, 65535)),
        (5, "INT16", struct.pack("<4h", -32768, 1, 2, 32767)),
        (12, "UINT32", struct.pack("<4I", 0, 1, 2, 2**32 - 1)),
        (13, "UINT64", struct.pack("<4Q", 0, 1, 2, 2**64 - 1)),
        (graphs.STRING, "BYTES", b"\1\0\0\0a\0\0\0\0\4\0\0\0\xf0\x9f\x98\x80\2\0\0\0zz"),
    ],
)
async def test_every_data_type_goes_through_to_the_last_bit(load: Load, number: int, name: str, data: bytes) -> None:
    session = await load(graphs.identity(number))
    (found,) = (await ask(session, Tensor("x0", name, (2, 2), data))).outputs
    assert (found.name, found.dtype, found.shape, bytes(found.data)) == ("y0", name, (2, 2), data)


async def test_data_at_an_odd_address_are_read_right(load: Load) -> None:
    session = await load(graphs.identity(graphs.DOUBLE))
    data = struct.pack("<3d", 1, 2, 3)
    (found,) = (await ask(session, Tensor("x0", "FP64", (1, 3), memoryview(b"!" + data)[1:]))).outputs
    assert found.data == data


async def test_requests_at_the_same_time_are_one_run_and_equal_to_the_same_alone(load: Load) -> None:
    session = await load(graphs.mlp(64, 128, 10))
    rng = numpy.random.default_rng(1)
    rows = [rng.standard_normal((1 + index % 3, 64)) for index in range(24)]
    alone = [await ask(session, floats("x", row)) for row in rows]
    assert all(one.run_rows == one.num_rows and one.is_first for one in alone)
    found = await together(session, [(floats("x", row),) for row in rows])
    assert max(one.run_rows for one in found) > 8
    assert sum(one.is_first for one in found) < len(rows)
    for got, expected in zip(found, alone, strict=True):
        assert array_of(got.outputs[0]) == pytest.approx(array_of(expected.outputs[0]), rel=1e-5, abs=1e-7)
        assert got.outputs[1] == expected.outputs[1]


async def test_no_run_has_more_rows_than_the_limit(load: Load) -> None:
    session = await load(graphs.mlp(), batch_rows=8)
    found = await together(session, [(floats("x", numpy.ones((3, 4))),) for _ in range(20)])
    assert {one.run_rows for one in found} <= {3, 6}
    large = await ask(session, floats("x", numpy.ones((50, 4))))
    assert (large.num_rows, large.run_rows) == (50, 50)


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        (graphs.centred(), "x"),
        (graphs.mlp(), None),
        (graphs.identity(graphs.FLOAT, shape=(2, 4)), "x0"),
    ],
    ids=["rows that depend on one another", "rows that do not", "a fixed first dimension"],
)
async def test_only_rows_that_do_not_touch_share_a_run(load: Load, graph: bytes, name: str | None) -> None:
    session = await load(graph)
    assert session.can_share is (name is None)
    if name is not None:
        rows = [numpy.outer([index, index + 1.0], numpy.ones(4)) for index in range(8)]
        found = await together(session, [(floats(name, row),) for row in rows])
        assert {one.run_rows for one in found} == {2}
        for got, row in zip(found, rows, strict=True):
            expected = row - row.mean(axis=0) if name == "x" else row
            assert array_of(got.outputs[0]) == pytest.approx(expected)


async def test_a_model_that_quantises_while_it_runs_computes_every_request_alone(load: Load) -> None:
    nodes = [
        graphs.node("DynamicQuantizeLinear", "x", "q s z"),
        graphs.node("DequantizeLinear", "q s z", "y"),
    ]
    ports = [graphs.port("x", graphs.FLOAT, ("n", 4))], [graphs.port("y", graphs.FLOAT, ("n", 4))]
    session = await load(graphs.model(nodes, *ports))
    assert not session.can_share


async def test_one_row_by_itself_is_what_batch_rows_1_means(load: Load) -> None:
    session = await load(graphs.mlp(), batch_rows=1)
    found = await together(session, [(floats("x", numpy.ones((1, 4))),) for _ in range(8)])
    assert {one.run_rows for one in found} == {1}


async def test_shapes_that_differ_do_not_share_a_run(load: Load) -> None:
    session = await load(graphs.identity(graphs.FLOAT))
    rows = [numpy.full((1, 1 + index % 2), float(index)) for index in range(12)]
    found = await together(session, [(floats("x0", row),) for row in rows])
    for got, row in zip(found, rows, strict=True):
        assert array_of(got.outputs[0]).tolist() == row.tolist()


@pytest.mark.parametrize("batch_rows", [64, 2])
async def test_a_value_that_the_model_cannot_take_hurts_nobody_else(load: Load, batch_rows: int) -> None:
    session = await load(graphs.lookup(), batch_rows=batch_rows)
    assert session.can_share
    found = await together(session, [(floats("i", [index], "INT64"),) for index in (0, 1, 2, 99, 1)])
    assert isinstance(found[3], InputError)
    assert "99" not in str(found[3])
    good = [array_of(found[index].outputs[0]).tolist() for index in (0, 1, 2, 4)]
    assert good == [[[0, 1]], [[2, 3]], [[4, 5]], [[2, 3]]]


async def test_ranks_and_lengths_that_the_model_cannot_take_are_the_callers_error(load: Load) -> None:
    session = await load(graphs.mlp())
    for wrong in (floats("x", numpy.ones((1, 5))), floats("x", numpy.ones(4)), Tensor("x", "FP32", (1, 4), bytes(12))):
        with pytest.raises(InputError):
            await ask(session, wrong)
    assert (await ask(session, floats("x", numpy.ones((0, 4))))).outputs[0].shape == (0, 3)


def endless(num_rounds: int) -> bytes:
    """A chain of products of large matrices, which takes seconds."""
    nodes = [graphs.node("MatMul", f"a{index} a0", f"a{index + 1}") for index in range(num_rounds)]
    ports = [graphs.port("a0", graphs.FLOAT, ("n", "n"))], [graphs.port(f"a{num_rounds}", graphs.FLOAT, ("n", "n"))]
    return graphs.model(nodes, *ports)


async def test_a_run_that_nobody_waits_for_any_more_is_stopped(load: Load) -> None:
    session = await load(endless(4000), threads=1)
    big = floats("a0", numpy.zeros((512, 512)))
    task = asyncio.ensure_future(ask(session, big))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await ask(session, floats("a0", numpy.zeros((2, 2))))
    assert loop.time() - began_s < 2  # the whole chain takes far longer


async def test_closing_waits_for_the_run_and_refuses_who_waits(load: Load) -> None:
    session = await load(endless(200), threads=1)
    big = floats("a0", numpy.zeros((256, 256)))
    running, waiting = (asyncio.ensure_future(ask(session, big)) for _ in range(2))
    await asyncio.sleep(0.02)
    await session.close()
    assert (await running).outputs[0].shape == (256, 256)
    with pytest.raises(EngineError):
        await waiting


async def test_a_manifest_of_other_ports_is_refused(tmp_path: Path) -> None:
    model = modelled(graphs.write(tmp_path, "m", graphs.mlp()))
    other = modelled(graphs.write(tmp_path, "o", graphs.lookup())).manifest.signature
    manifest = msgspec.structs.replace(model.manifest, signature=other)
    with pytest.raises(FormatError, match="ports"):
        await onnx.Engine().load(StoredModel(manifest, model.digest, model.paths), Placement())


async def test_a_data_type_that_cannot_be_passed_is_refused_before_loading(tmp_path: Path) -> None:
    model = modelled(graphs.write(tmp_path, "m", graphs.identity(16)))
    assert "bfloat16" in (onnx.Engine().accepts(model) or "")


def looping() -> bytes:
    """A network beside a node whose work depends on a value."""
    nodes = [graphs.node("Relu", "x", "y"), graphs.node("NonZero", "x", "z")]
    ports = [graphs.port("x", graphs.FLOAT, ("n", 4))], [graphs.port("y", graphs.FLOAT, ("n", 4))]
    return graphs.model(nodes, *ports)


async def test_only_small_models_of_fixed_work_run_on_the_event_loop(load: Load) -> None:
    assert (await load(graphs.mlp())).is_quick
    assert not (await load(graphs.identity(graphs.FLOAT))).is_quick  # a length varies beside the rows
    assert not (await load(looping())).is_quick
    assert not (await load(graphs.mlp(1024, 4096, 10))).is_quick
    assert not (await load(graphs.centred())).is_quick


async def test_a_request_that_leaves_before_its_run_on_the_event_loop_hurts_nobody(load: Load) -> None:
    session = await load(graphs.mlp())
    tasks = [asyncio.ensure_future(ask(session, floats("x", numpy.ones((1, 4))))) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [False, True, False, False]
    assert {one.run_rows for one in found if isinstance(one, Prediction)} == {3}
