"""Health, and what the server and its models are: names, versions, signatures with units."""

from __future__ import annotations

from typing import Any

from catena import __version__
from catena.core.errors import NotFoundError
from catena.core.manifest import TensorSpec
from catena.core.messages.predict import DTYPE_NAMES
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.open_inference.statistics import counts
from catena.reach.gateway.services import Listed
from catena.reach.router import DEFAULT

# Of each name the newest manifest is served; older ones can be asked for by digest.
VERSION = "1"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
PLATFORMS = {"onnx": "onnxruntime_onnx", "gguf": "llama.cpp_gguf"}
TEXT_IN, TEXT_OUT = (TensorSpec("text_input", "string", (1,)),), (TensorSpec("text_output", "string", (1,)),)
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


async def live(exchange: Exchange) -> None:
    """GET /v2/health/live"""
    await answer_json(exchange, {"live": True})


async def ready(exchange: Exchange) -> None:
    """GET /v2/health/ready"""
    _check_ready(exchange)
    await answer_json(exchange, {"ready": True})


async def server(exchange: Exchange) -> None:
    """GET /v2"""
    await answer_json(exchange, {"name": "catena", "version": __version__, "extensions": EXTENSIONS})


async def model(exchange: Exchange) -> None:
    """GET /v2/models/{model}: its signature, and under `parameters` what is known beyond it."""
    row = found(exchange)
    inputs, outputs = ports(row)
    await answer_json(
        exchange,
        {
            "name": row.name,
            "versions": [VERSION],
            "platform": platform(row),
            "inputs": [_port(one) for one in inputs],
            "outputs": [_port(one) for one in outputs],
            "parameters": {"digest": row.digest, "task": row.manifest.task, "licence": row.manifest.licence},
        },
    )


async def model_ready(exchange: Exchange) -> None:
    """GET /v2/models/{model}/ready: it can be asked; what is not in memory is loaded by the first who asks."""
    row = found(exchange)
    _check_ready(exchange)
    await answer_json(exchange, {"name": row.name, "ready": True})


async def config(exchange: Exchange) -> None:
    """GET /v2/models/{model}/config: the signature in the words of a Triton model configuration."""
    await answer_json(exchange, config_form(found(exchange)))


def config_form(row: Listed) -> dict[str, Any]:
    """The signature of a model in those words."""
    inputs, outputs = ports(row)
    return {
        "name": row.name,
        "platform": platform(row),
        "backend": row.manifest.format,
        "max_batch_size": 0,
        "input": [_config_port(one) for one in inputs],
        "output": [_config_port(one) for one in outputs],
    }


async def model_statistics(exchange: Exchange) -> None:
    """GET /v2/models/{model}/stats"""
    row = found(exchange)
    await answer_json(exchange, {"model_stats": [counts(exchange, row.name).form(row.name)]})


async def all_statistics(exchange: Exchange) -> None:
    """GET /v2/models/stats"""
    rows = exchange.services.models()
    await answer_json(exchange, {"model_stats": [counts(exchange, row.name).form(row.name) for row in rows]})


def found(exchange: Exchange) -> Listed:
    """The model of this address. Raises NotFoundError for a model or version that is not there."""
    check_version(exchange)
    row = known(exchange, exchange.params["model"])
    if row is None:
        raise NotFoundError("there is no such model", hint="POST /v2/repository/index lists them", param="model")
    return row


def known(exchange: Exchange, name: str) -> Listed | None:
    """The model called `name`, by alias or digest too."""
    if name == DEFAULT:
        name = exchange.services.settings.default_model
    return next((row for row in exchange.services.models() if name in (row.name, row.digest)), None)


def check_version(exchange: Exchange) -> None:
    """Raises NotFoundError unless the version in the address is the one there is."""
    if exchange.params.get("version", VERSION) != VERSION:
        raise NotFoundError("there is no such version", hint=f"version {VERSION} is the newest, and the only one")


def ports(row: Listed) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs; of a model that generates, those of the address `generate`."""
    if row.manifest.task == "generate":
        return TEXT_IN, TEXT_OUT
    return row.manifest.signature.inputs, row.manifest.signature.outputs


def _check_ready(exchange: Exchange) -> None:
    if not exchange.scope["catena.gateway"].is_ready:
        raise HttpError(503, "the gateway is shutting down", code="shutting_down")


def platform(row: Listed) -> str:
    """What runs a model, as the protocol calls it."""
    return PLATFORMS.get(row.manifest.format, row.manifest.format)


def _port(port: TensorSpec) -> dict[str, Any]:
    form: dict[str, Any] = {"name": port.name, "datatype": _datatype(port), "shape": port.shape}
    return form if port.unit == "1" else form | {"parameters": {"unit": port.unit}}


def _config_port(port: TensorSpec) -> dict[str, Any]:
    datatype = _datatype(port)
    return {"name": port.name, "data_type": _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}"), "dims": port.shape}


def _datatype(port: TensorSpec) -> str:
    return DTYPE_NAMES.get(port.dtype, port.dtype.upper())
