"""What the gateway counts: requests by route and status, times, tokens, what runs now. Never content."""

from __future__ import annotations

import logging

from catena.core.clock import monotonic_s
from catena.core.messages import Usage
from catena.reach.gateway.exchange import Exchange
from catena.watch import metrics

REQUESTS = metrics.counter("catena_reach_requests_total", "Requests ended, by route and status.", ("route", "status"))
TIME = metrics.histogram("catena_reach_request_seconds", "From the head of a request to its end.", ("route",))
FIRST = metrics.histogram("catena_reach_first_token_seconds", "From asking a model to its first token.", ("model",))
TOKENS = metrics.counter("catena_reach_tokens_total", "Tokens of answers given in full.", ("model", "kind"))
RUNNING = metrics.gauge("catena_reach_running_requests", "Requests being answered now.").labels()
GONE = "gone"

access_log = logging.getLogger("catena.reach.access")


def begin() -> float:
    """Count one request that begins; gives the time to hand to `end`."""
    RUNNING.add(1)
    return monotonic_s()


def end(exchange: Exchange, began_s: float) -> None:
    """Count one request that ended, and log it where somebody listens: method, pattern, status, time, nothing else."""
    RUNNING.add(-1)
    took_s = monotonic_s() - began_s
    pattern = exchange.route.pattern if exchange.route else "-"
    status = GONE if exchange.is_gone and not exchange.is_finished else str(exchange.status)
    REQUESTS.labels(pattern, status).add()
    TIME.labels(pattern).observe(took_s)
    if exchange.first_event_s is not None:
        FIRST.labels(exchange.model).observe(exchange.first_event_s)
    if exchange.usage is not None:
        spend(exchange.model, exchange.usage)
    if access_log.isEnabledFor(logging.DEBUG):
        access_log.debug("%s %s %s %.1f ms", exchange.method, pattern, status, took_s * 1000)


def spend(model: str, usage: Usage) -> None:
    """Count the tokens of an answer given in full."""
    TOKENS.labels(model, "prompt").add(usage.prompt_tokens)
    TOKENS.labels(model, "completion").add(usage.completion_tokens)


def exposition() -> bytes:
    """All metrics of this process in the Prometheus text format."""
    return metrics.render().encode()
