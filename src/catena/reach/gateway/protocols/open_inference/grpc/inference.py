"""ModelInfer: named arrays to named arrays; and how one such question is answered, alone or within a stream."""

from __future__ import annotations

import time

import anyio.to_thread

from catena.core.errors import CatenaError, InputError
from catena.core.messages import PredictRequest, Tensor
from catena.core.messages.predict import DTYPES
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.grpc.messages import Pieces
from catena.reach.gateway.protocols.open_inference import bodies, fields
from catena.reach.gateway.protocols.open_inference.grpc import answers, contents, requests
from catena.reach.gateway.protocols.open_inference.infer import count_failure, predicted
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, check_version
from catena.reach.gateway.protocols.open_inference.statistics import counts
from catena.reach.gateway.protocols.open_inference.tensors import classified
from catena.reach.gateway.wire import check_fields

# Typed elements are read one by one; beyond so many bytes of them others would wait for it too long.
MAX_INLINE_BYTES = 64 << 10
RECEIPT = "catena-receipt"


async def infer(exchange: Exchange, message: bytes) -> Pieces:
    """ModelInfer."""
    began_ns = time.perf_counter_ns()
    asked = requests.infer(message)
    address(exchange, asked.model, asked.version)
    exchange.enter("open_inference.ModelInfer")
    return await answer(exchange, message, asked, began_ns)


def address(exchange: Exchange, model: str, version: str) -> None:
    """Put into the exchange what the address of a REST request would have said. Raises NotFoundError for a version."""
    exchange.params = {"model": model, "version": version} if version else {"model": model}
    check_version(exchange)


async def answer(
    exchange: Exchange,
    message: bytes,
    asked: requests.Infer,
    began_ns: int,
    parameters: answers.Parameters | None = None,
) -> Pieces:
    """Answer one question, and count it however it ends. With `parameters`, the answer tells them and its receipt."""
    try:
        return await _answer(exchange, message, asked, began_ns, parameters)
    except CatenaError:
        count_failure(exchange, began_ns)
        raise


async def _answer(
    exchange: Exchange, message: bytes, asked: requests.Infer, began_ns: int, parameters: answers.Parameters | None
) -> Pieces:
    warnings = exchange.warnings
    check_fields(asked.parameters, fields.CALL_PARAMETERS, warnings)
    inputs = await arrays(message, asked, warnings)
    classes = {one.name: _classes(one, warnings) for one in asked.outputs}
    request = PredictRequest(asked.model, inputs, tuple([one.name for one in asked.outputs]))
    is_raw = bodies.flag(asked.parameters, "binary_data_output", bool(asked.raw) or not asked.inputs)
    read_ns = time.perf_counter_ns() - began_ns
    found = await predicted(exchange, exchange.services.router.predict(request, exchange.caller))
    done_ns = time.perf_counter_ns()
    outputs = found.prediction.outputs
    if any(classes.values()):
        outputs = [classified(one, count) if (count := classes.get(one.name, 0)) else one for one in outputs]
    told = None if parameters is None else {**parameters, RECEIPT: found.receipt}
    pieces = answers.inferred(found.model.name, VERSION, asked.id, outputs, is_raw=is_raw, parameters=told)
    now_ns = time.perf_counter_ns()
    counts(exchange, found.model.name).note(found.prediction, read_ns, now_ns - done_ns, now_ns - began_ns)
    return pieces


async def arrays(message: bytes, asked: requests.Infer, warnings: list[str]) -> tuple[Tensor, ...]:
    """The arrays of a request: all as bytes, or all typed. Raises InputError."""
    if asked.raw and len(asked.raw) != len(asked.inputs):
        raise InputError("raw_input_contents must hold every input, in order, or none", param="raw_input_contents")
    num_typed = sum(last - first for one in asked.inputs for first, last in one.contents)
    if asked.raw and num_typed:
        raise InputError("an input has both contents and raw_input_contents", param="raw_input_contents")
    units = [_unit(one, warnings) for one in asked.inputs]
    if asked.raw:
        rows = zip(asked.inputs, asked.raw, units, strict=True)
        return tuple([Tensor(one.name, one.datatype, one.shape, data, unit) for one, data, unit in rows])

    def typed() -> tuple[Tensor, ...]:
        rows = zip(asked.inputs, units, strict=True)
        return tuple(
            [
                Tensor(
                    one.name,
                    one.datatype,
                    one.shape,
                    contents.packed(bodies.shown(one.name), one.datatype, message, one.contents),
                    unit,
                )
                for one, unit in rows
            ]
        )

    return typed() if num_typed <= MAX_INLINE_BYTES else await anyio.to_thread.run_sync(typed)


def _unit(one: requests.Input, warnings: list[str]) -> str:
    if one.datatype not in DTYPES:
        raise InputError("datatype is none of the protocol's", hint=f"known: {', '.join(DTYPES)}", param="datatype")
    if not one.parameters:
        return ""
    check_fields(one.parameters, fields.CALL_INPUT_PARAMETERS, warnings)
    unit = one.parameters.get("unit", "")
    if not isinstance(unit, str):
        raise InputError("unit must be a text", param="unit")
    return unit


def _classes(one: requests.Output, warnings: list[str]) -> int:
    check_fields(one.parameters, fields.CALL_OUTPUT_PARAMETERS, warnings)
    return bodies.num_classes(one.parameters)
