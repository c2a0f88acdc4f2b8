"""The Open Inference Protocol, version 2: models that predict, with the extensions that its clients use."""

from catena.reach.gateway.protocols.open_inference import generate, infer, metadata, repository
from catena.reach.gateway.protocols.open_inference.errors import OPEN_INFERENCE
from catena.reach.gateway.protocols.open_inference.grpc import service
from catena.reach.gateway.routing import Route

_MODELS = (
    ("GET", "", metadata.model),
    ("GET", "/ready", metadata.model_ready),
    ("GET", "/config", metadata.config),
    ("GET", "/stats", metadata.model_statistics),
    ("POST", "/infer", infer.infer),
    ("POST", "/generate", generate.generate),
    ("POST", "/generate_stream", generate.generate_stream),
)
_PLACES = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")

routes = (
    Route("GET", "/v2/health/live", metadata.live, None, OPEN_INFERENCE),
    Route("GET", "/v2/health/ready", metadata.ready, None, OPEN_INFERENCE),
    Route("GET", "/v2", metadata.server, "ask", OPEN_INFERENCE),
    Route("GET", "/v2/models/stats", metadata.all_statistics, "ask", OPEN_INFERENCE),
    Route("POST", "/v2/repository/index", repository.index, "ask", OPEN_INFERENCE),
    Route("POST", "/v2/repository/models/{model}/load", repository.load, "manage", OPEN_INFERENCE),
    Route("POST", "/v2/repository/models/{model}/unload", repository.unload, "manage", OPEN_INFERENCE),
    *(
        Route(method, place + rest, handle, "ask", OPEN_INFERENCE)
        for place in _PLACES
        for method, rest, handle in _MODELS
    ),
    *service.routes,
)
