"""Whether arrays fit the signature of the model they are for, decided before anything is recorded or computed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection

import msgspec

from catena.core.errors import InputError, UnsupportedError
from catena.core.manifest import Manifest, TensorSpec
from catena.core.messages import PredictRequest, Tensor
from catena.core.messages.predict import DTYPES

MAX_DIMENSIONS = 64


def fitted(request: PredictRequest, manifest: Manifest) -> PredictRequest:
    """`request` with its arrays in the order of the signature, and with its units.

    Raises UnsupportedError for a model that does not predict; InputError for an array that is unknown, missing or
    given twice, for another data type, shape or unit, and for data that do not fill their shape exactly. No error
    quotes data.
    """
    if manifest.task != "predict":
        raise UnsupportedError(
            f"{manifest.name} does not predict", hint="choose a model with task predict", param="model"
        )
    given: dict[str, Tensor] = {}
    for tensor in request.inputs:
        if tensor.name in given:
            raise InputError(f"input {_shown(tensor.name)} is given twice", param=_shown(tensor.name))
        given[tensor.name] = tensor
    ports = manifest.signature.inputs
    inputs: list[Tensor] = []
    for port in ports:
        tensor = given.pop(port.name, None)
        if tensor is None:
            unknown = f"; {_shown(next(iter(given)))} is not one of its inputs" if given else ""
            raise InputError(f"input {port.name} is missing{unknown}", hint=_known(ports), param=port.name)
        inputs.append(_fitted(tensor, port))
    if given:
        raise _unknown("input", next(iter(given)), [port.name for port in ports])
    outputs = [port.name for port in manifest.signature.outputs]
    for name in request.outputs:
        if name not in outputs:
            raise _unknown("output", name, outputs)
    if len(set(request.outputs)) < len(request.outputs):
        raise InputError("an output is asked for twice", param="outputs")
    return PredictRequest(request.model, tuple(inputs), request.outputs)


def num_elements(tensor: Tensor) -> int:
    """How many elements the data of `tensor` hold. Raises InputError if they end within one."""
    size = DTYPES[tensor.dtype].num_bytes
    if size:
        count, rest = divmod(len(tensor.data), size)
        if rest:
            raise InputError(f"the data of {_shown(tensor.name)} end within an element", param=_shown(tensor.name))
        return count
    view, offset, count = memoryview(tensor.data), 0, 0
    while offset < len(view):
        offset += 4 + int.from_bytes(view[offset : offset + 4], "little")
        count += 1
    if offset != len(view):
        raise InputError(f"the data of {_shown(tensor.name)} end within an element", param=_shown(tensor.name))
    return count


def _fitted(tensor: Tensor, port: TensorSpec) -> Tensor:
    name = port.name
    dtype = DTYPES[tensor.dtype]
    if dtype.name != port.dtype:
        raise InputError(f"input {name} is of type {port.dtype}, not {dtype.name}", param=name)
    shape = tensor.shape
    if len(shape) > MAX_DIMENSIONS or any(length < 0 for length in shape):
        raise InputError(f"the shape of input {name} has a negative length or too many", param=name)
    # A port without dimensions holds one value, or its model does not say: then the engine knows.
    if port.shape and (
        len(shape) != len(port.shape)
        or any(want not in (-1, length) for want, length in zip(port.shape, shape, strict=True))
    ):
        wanted = f"it takes {list(port.shape)}, -1 being any"
        raise InputError(f"input {name} has the shape {list(shape)[:8]}", hint=wanted, param=name)
    if num_elements(tensor) != math.prod(shape):
        raise InputError(f"the data of input {name} do not fill its shape {list(shape)[:8]} exactly", param=name)
    if dtype.name == "bool" and bytes(tensor.data).translate(None, b"\0\1"):
        raise InputError(f"input {name} holds a byte that is neither 0 nor 1", param=name)
    if tensor.unit == port.unit:
        return tensor
    if tensor.unit:
        raise InputError(f"input {name} is in {port.unit}, not in {_shown(tensor.unit)}", param=name)
    return msgspec.structs.replace(tensor, unit=port.unit)


def _unknown(kind: str, name: str, known: Collection[str]) -> InputError:
    near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(list(known)[:8])}"
    return InputError(f"the model has no {kind} {_shown(name)}", hint=hint, param=f"{kind}s")


def _known(ports: Collection[TensorSpec]) -> str:
    return f"it takes {', '.join(port.name for port in list(ports)[:8])}"


def _shown(name: str) -> str:
    return name if len(name) <= 64 and name.isprintable() else "(unprintable)"
