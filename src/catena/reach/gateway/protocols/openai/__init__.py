"""The OpenAI protocol for text: models, chat, completions, embeddings, responses."""

from catena.reach.gateway.protocols.openai import (
    chat,
    completions,
    embeddings,
    models,
    rerank,
    responses,
    transcriptions,
)
from catena.reach.gateway.protocols.openai.errors import OPENAI
from catena.reach.gateway.routing import Route

routes = (
    Route("GET", "/v1/models", models.list_models, "ask", OPENAI),
    Route("GET", "/v1/models/{model*}", models.show_model, "ask", OPENAI),
    Route("POST", "/v1/chat/completions", chat.complete, "ask", OPENAI),
    Route("POST", "/v1/completions", completions.complete, "ask", OPENAI),
    Route("POST", "/v1/embeddings", embeddings.embed, "ask", OPENAI),
    *(Route("POST", path, rerank.rerank, "ask", OPENAI) for path in ("/v1/rerank", "/v2/rerank", "/rerank")),
    Route("POST", "/v1/audio/transcriptions", transcriptions.transcribe, "ask", OPENAI),
    Route("POST", "/v1/audio/translations", transcriptions.translate, "ask", OPENAI),
    *responses.routes,
)
