"""The Anthropic Messages protocol: messages, token counts, models."""

from catena.reach.gateway.protocols.anthropic import counting, messages, models
from catena.reach.gateway.protocols.anthropic.errors import ANTHROPIC
from catena.reach.gateway.protocols.anthropic.headers import VERSION_HEADER
from catena.reach.gateway.routing import Route

routes = (
    Route("POST", "/v1/messages", messages.create, "ask", ANTHROPIC),
    Route("POST", "/v1/messages/count_tokens", counting.count, "ask", ANTHROPIC),
    # The OpenAI protocol has these addresses too; its clients do not send this header.
    Route("GET", "/v1/models", models.list_models, "ask", ANTHROPIC, VERSION_HEADER),
    Route("GET", "/v1/models/{model*}", models.show_model, "ask", ANTHROPIC, VERSION_HEADER),
)
