"""The OpenAI protocol: models, chat, completions, embeddings, responses, files, batches."""

from catena.reach.gateway.protocols.openai import (
    batches,
    chat,
    classify,
    completions,
    embeddings,
    files,
    models,
    rerank,
    responses,
    tokens,
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
    *(Route("POST", path, classify.classify, "ask", OPENAI) for path in ("/v1/classify", "/classify")),
    Route("POST", "/v1/audio/transcriptions", transcriptions.transcribe, "ask", OPENAI),
    Route("POST", "/v1/audio/translations", transcriptions.translate, "ask", OPENAI),
    *responses.routes,
    *(Route("POST", path, tokens.tokenise, "ask", OPENAI) for path in ("/tokenize", "/v1/tokenize")),
    *(Route("POST", path, tokens.detokenise, "ask", OPENAI) for path in ("/detokenize", "/v1/detokenize")),
    Route("POST", "/v1/files", files.upload, "ask", OPENAI),
    Route("GET", "/v1/files", files.list_files, "ask", OPENAI),
    Route("GET", "/v1/files/{file}", files.show, "ask", OPENAI),
    Route("DELETE", "/v1/files/{file}", files.remove, "ask", OPENAI),
    Route("GET", "/v1/files/{file}/content", files.content, "ask", OPENAI),
    Route("POST", "/v1/batches", batches.create, "ask", OPENAI),
    Route("GET", "/v1/batches", batches.list_batches, "ask", OPENAI),
    Route("GET", "/v1/batches/{batch}", batches.show, "ask", OPENAI),
    Route("POST", "/v1/batches/{batch}/cancel", batches.cancel, "ask", OPENAI),
)
