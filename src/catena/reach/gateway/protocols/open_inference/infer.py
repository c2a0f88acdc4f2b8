"""POST /v2/models/{model}/infer: named arrays to named arrays."""

from __future__ import annotations

import time
from collections.abc import Awaitable

from catena.core.errors import CatenaError
from catena.reach.gateway.answering import server_timing, unless_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.protocols.open_inference import bodies
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, check_version, known
from catena.reach.gateway.protocols.open_inference.statistics import counts
from catena.reach.gateway.routing import JSON
from catena.reach.router import PredictedAnswer

BINARY = "application/octet-stream"
# The official client names no media type for JSON, and the protocol asks for none.
MEDIA_TYPES = frozenset({"", JSON, BINARY})


async def infer(exchange: Exchange) -> None:
    """Answer an infer request; it is counted in the statistics of its model, however it ends."""
    began_ns = time.perf_counter_ns()
    try:
        await _infer(exchange, began_ns)
    except CatenaError:
        count_failure(exchange, began_ns)
        raise


def count_failure(exchange: Exchange, began_ns: int) -> None:
    """Count a request that failed in the statistics of its model, if there is such a model."""
    if row := known(exchange, exchange.params["model"]):
        counts(exchange, row.name).fail(time.perf_counter_ns() - began_ns)


async def _infer(exchange: Exchange, began_ns: int) -> None:
    check_version(exchange)
    body = await _body(exchange)
    begun_ns = time.perf_counter_ns()
    num_json = bodies.header_length(exchange.headers.get(bodies.HEADER), len(body))
    max_depth = exchange.services.settings.max_json_depth
    asked = bodies.read(exchange.params["model"], body, num_json, max_depth, exchange.warnings)
    read_ns = time.perf_counter_ns() - begun_ns
    exchange.enter("open_inference.infer")
    work = exchange.services.router.predict(asked.request, exchange.caller)
    answer = await predicted(exchange, unless_gone(exchange, work))
    prediction = answer.prediction
    done_ns = time.perf_counter_ns()
    body, num_json = bodies.write(asked, answer.model.name, VERSION, prediction.outputs, exchange.warnings)
    now_ns = time.perf_counter_ns()
    exchange.headers_out["server-timing"] = server_timing(prediction.timings, (now_ns - began_ns) / 1e9)
    counts(exchange, answer.model.name).note(prediction, read_ns, now_ns - done_ns, now_ns - began_ns)
    if num_json < len(body):
        exchange.headers_out[bodies.HEADER] = str(num_json)
        await exchange.answer(200, body, BINARY)
    else:
        await exchange.answer(200, body)


async def predicted(exchange: Exchange, work: Awaitable[PredictedAnswer]) -> PredictedAnswer:
    """What `work` gives, noted with the exchange. Raises what it raises."""
    answer = await work
    exchange.receipt, exchange.model = answer.receipt, answer.model.name
    return answer


async def _body(exchange: Exchange) -> bytes:
    headers = exchange.headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise HttpError(415, "the body must be JSON, with or without binary data", code="unsupported_media_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "compressed bodies are not read", code="unsupported_encoding", hint="send it as it is")
    if bodies.HEADER in exchange.repeated:
        raise HttpError(400, "more than one Inference-Header-Content-Length")
    return await exchange.body()
