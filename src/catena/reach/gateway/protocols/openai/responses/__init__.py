"""OpenAI's Responses: answers made of items, kept for their caller, continued by id, and made in the background."""

from catena.reach.gateway.protocols.openai.responses import counting, create, stored
from catena.reach.gateway.protocols.openai.responses.form import RESPONSES
from catena.reach.gateway.routing import Route

routes = (
    Route("POST", "/v1/responses", create.create, "ask", RESPONSES),
    Route("POST", "/v1/responses/input_tokens", counting.count, "ask", RESPONSES),
    Route("POST", "/v1/responses/compact", create.compact, "ask", RESPONSES),
    Route("GET", "/v1/responses/{id}", stored.show, "ask", RESPONSES),
    Route("DELETE", "/v1/responses/{id}", stored.remove, "ask", RESPONSES),
    Route("POST", "/v1/responses/{id}/cancel", stored.cancel, "ask", RESPONSES),
    Route("GET", "/v1/responses/{id}/input_items", stored.input_items, "ask", RESPONSES),
)
