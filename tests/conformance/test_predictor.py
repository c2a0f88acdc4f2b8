"""What every session that predicts must do."""

from __future__ import annotations

import struct
from typing import Any

import anyio
import pytest
from tests.conformance.asking import example
from tests.conformance.conftest import Loaded

from catena.core.errors import EngineError
from catena.core.messages import Prediction, PredictRequest, Tensor
from catena.core.messages.predict import DTYPES
from catena.core.protocols import Predictor

pytestmark = pytest.mark.anyio


async def predict(loaded: Loaded, num_rows: int = 1, seed: int = 0, *wanted: str) -> Prediction:
    ports = loaded.model.manifest.signature.inputs
    return await loaded.session.predict(
        PredictRequest("m", tuple(example(port, num_rows, seed) for port in ports), wanted)
    )


def numbers(tensor: Tensor) -> Any:
    form = {"FP32": "f", "FP64": "d", "INT64": "q", "INT32": "i"}[tensor.dtype]
    return struct.unpack(f"<{len(tensor.data) // struct.calcsize(form)}{form}", tensor.data)


async def test_it_is_a_predictor(predictor: Loaded) -> None:
    assert isinstance(predictor.session, Predictor)


async def test_every_output_of_the_signature_comes_with_its_dtype_shape_and_unit(predictor: Loaded) -> None:
    found = await predict(predictor, 2)
    stated = predictor.model.manifest.signature.outputs
    assert [one.name for one in found.outputs] == [port.name for port in stated]
    for tensor, port in zip(found.outputs, stated, strict=True):
        assert (DTYPES[tensor.dtype].name, tensor.unit, len(tensor.shape)) == (port.dtype, port.unit, len(port.shape))
        assert all(want in (-1, got) for want, got in zip(port.shape, tensor.shape, strict=True))
        count = 1
        for length in tensor.shape:
            count *= length
        assert len(tensor.data) == count * DTYPES[tensor.dtype].num_bytes


async def test_only_the_outputs_asked_for_come_in_that_order(predictor: Loaded) -> None:
    names = [port.name for port in predictor.model.manifest.signature.outputs]
    for wanted in ([names[-1]], names[::-1]):
        found = await predict(predictor, 1, 0, *wanted)
        assert [one.name for one in found.outputs] == wanted


async def test_the_same_question_has_the_same_answer_and_another_question_another(predictor: Loaded) -> None:
    first, same, other = [await predict(predictor, 3, seed) for seed in (1, 1, 2)]
    assert first.outputs == same.outputs
    assert first.outputs != other.outputs


async def test_an_answer_does_not_depend_on_who_asks_at_the_same_time(predictor: Loaded) -> None:
    alone = [await predict(predictor, 1 + seed % 3, seed) for seed in range(24)]
    together: dict[int, Prediction] = {}

    async def one(seed: int) -> None:
        together[seed] = await predict(predictor, 1 + seed % 3, seed)

    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for seed in range(24):
                tasks.start_soon(one, seed)
        for seed, found in together.items():
            for got, expected in zip(found.outputs, alone[seed].outputs, strict=True):
                assert got.shape == expected.shape
                assert numbers(got) == pytest.approx(numbers(expected), rel=1e-5, abs=1e-6)


async def test_a_cancelled_request_leaves_the_session_usable_and_hurts_nobody(predictor: Loaded) -> None:
    expected = (await predict(predictor, 1, 5)).outputs
    found: list[Any] = []

    async def stay() -> None:
        found.append((await predict(predictor, 1, 5)).outputs)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(stay)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await predict(predictor, 1, 6)
    assert [tuple(one.shape for one in each) for each in found] == [tuple(one.shape for one in expected)] * 4


async def test_a_closed_session_refuses(predictor: Loaded) -> None:
    session = await predictor.engine.load(predictor.model, predictor.placement)
    await session.close()
    ports = predictor.model.manifest.signature.inputs
    with pytest.raises(EngineError):
        await session.predict(PredictRequest("m", tuple(example(port, 1) for port in ports)))
