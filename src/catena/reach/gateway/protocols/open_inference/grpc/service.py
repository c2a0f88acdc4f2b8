"""Every procedure of the service but the inferring ones: health, metadata, statistics, repository; and its routes."""

from __future__ import annotations

from catena import __version__
from catena.core.errors import NotFoundError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.grpc.messages import Pieces, unary
from catena.reach.gateway.grpc.status import GRPC
from catena.reach.gateway.protocols.open_inference import fields, metadata, repository
from catena.reach.gateway.protocols.open_inference.grpc import answers, requests
from catena.reach.gateway.protocols.open_inference.grpc.inference import address, infer
from catena.reach.gateway.protocols.open_inference.grpc.streaming import stream
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, found
from catena.reach.gateway.protocols.open_inference.statistics import counts
from catena.reach.gateway.routing import Route
from catena.reach.gateway.wire import check_fields

SERVICE = "/inference.GRPCInferenceService/"
NOT_HERE: dict[str, str] = {
    **dict.fromkeys(
        [f"{kind}SharedMemory{act}" for kind in ("System", "Cuda") for act in ("Status", "Register", "Unregister")],
        "memory is not shared with clients",
    ),
    "TraceSetting": "requests are traced by their receipts",
    "LogSettings": "what is logged is said when the gateway starts",
}


async def server_live(exchange: Exchange, message: bytes) -> Pieces:
    requests.nothing(message)
    return [answers.flag(True)]


async def server_ready(exchange: Exchange, message: bytes) -> Pieces:
    requests.nothing(message)
    return [answers.flag(exchange.scope["catena.gateway"].is_ready)]


async def model_ready(exchange: Exchange, message: bytes) -> Pieces:
    """False for a model that is not there, as Triton says it; REST says 404."""
    try:
        _named(exchange, message)
        found(exchange)
    except NotFoundError:
        return [answers.flag(False)]
    return [answers.flag(exchange.scope["catena.gateway"].is_ready)]


async def server_metadata(exchange: Exchange, message: bytes) -> Pieces:
    requests.nothing(message)
    return [answers.server("catena", __version__, metadata.EXTENSIONS)]


async def model_metadata(exchange: Exchange, message: bytes) -> Pieces:
    _named(exchange, message)
    row = found(exchange)
    inputs, outputs = metadata.ports(row)
    return [answers.model(row.name, VERSION, metadata.platform(row), inputs, outputs)]


async def model_config(exchange: Exchange, message: bytes) -> Pieces:
    """A model that generates is decoupled: it answers one request with many pieces."""
    _named(exchange, message)
    row = found(exchange)
    return [answers.config(metadata.config_form(row), is_decoupled=row.manifest.task == "generate")]


async def model_statistics(exchange: Exchange, message: bytes) -> Pieces:
    """Of one model, or without a name of all."""
    rows = [found(exchange)] if _named(exchange, message) else exchange.services.models()
    return [answers.statistics([counts(exchange, row.name).form(row.name) for row in rows])]


async def index(exchange: Exchange, message: bytes) -> Pieces:
    rows = repository.index_form(exchange, is_ready_only=requests.index(message).is_ready)
    return [answers.index(rows)]


async def load(exchange: Exchange, message: bytes) -> Pieces:
    _loading(exchange, message)
    await repository.bring_in(exchange)
    return []


async def unload(exchange: Exchange, message: bytes) -> Pieces:
    _loading(exchange, message)
    repository.take_out(exchange)
    return []


async def refuse(exchange: Exchange) -> None:
    """What is part of the service and not done here."""
    name = exchange.raw_path.removeprefix(SERVICE)
    raise HttpError(501, f"{name} is not served: {NOT_HERE[name]}", code="unsupported")


def _named(exchange: Exchange, message: bytes) -> str:
    asked = requests.named(message)
    address(exchange, asked.name, asked.version)
    return asked.name


def _loading(exchange: Exchange, message: bytes) -> None:
    asked = requests.load(message)
    address(exchange, asked.name, "")
    check_fields(asked.parameters, fields.LOAD_PARAMETERS, exchange.warnings)


_PROCEDURES = (
    ("ServerLive", unary(server_live), None),
    ("ServerReady", unary(server_ready), None),
    ("ServerMetadata", unary(server_metadata), "ask"),
    ("ModelReady", unary(model_ready), "ask"),
    ("ModelMetadata", unary(model_metadata), "ask"),
    ("ModelInfer", unary(infer), "ask"),
    ("ModelStreamInfer", stream, "ask"),
    ("ModelConfig", unary(model_config), "ask"),
    ("ModelStatistics", unary(model_statistics), "ask"),
    ("RepositoryIndex", unary(index), "ask"),
    ("RepositoryModelLoad", unary(load), "manage"),
    ("RepositoryModelUnload", unary(unload), "manage"),
    *((name, refuse, "ask") for name in NOT_HERE),
)
routes = tuple(Route("GRPC", SERVICE + name, handle, scope, GRPC) for name, handle, scope in _PROCEDURES)
