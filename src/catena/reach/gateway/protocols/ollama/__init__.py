"""The Ollama protocol: chat, generate, embeddings, what is stored and loaded, and the making of models."""

from catena.reach.gateway.protocols.ollama import blobs, chat, create, embeddings, generate, library, models
from catena.reach.gateway.protocols.ollama.errors import OLLAMA, nothing_here
from catena.reach.gateway.routing import Route

routes = (
    Route("POST", "/api/chat", chat.chat, "ask", OLLAMA),
    Route("POST", "/api/generate", generate.generate, "ask", OLLAMA),
    Route("POST", "/api/embed", embeddings.embed, "ask", OLLAMA),
    Route("POST", "/api/embeddings", embeddings.embed_one, "ask", OLLAMA),
    Route("GET", "/api/tags", models.list_models, "ask", OLLAMA),
    Route("POST", "/api/show", models.show_model, "ask", OLLAMA),
    Route("GET", "/api/ps", models.list_loaded, "ask", OLLAMA),
    Route("GET", "/api/version", models.version, "ask", OLLAMA),
    Route("POST", "/api/pull", library.pull, "manage", OLLAMA),
    Route("POST", "/api/copy", library.copy, "manage", OLLAMA),
    Route("DELETE", "/api/delete", library.delete, "manage", OLLAMA),
    Route("POST", "/api/create", create.create, "manage", OLLAMA),
    Route("POST", "/api/push", library.push, "manage", OLLAMA),
    Route("GET", "/api/blobs/{digest}", blobs.find, "manage", OLLAMA),
    Route("POST", "/api/blobs/{digest}", blobs.receive, "manage", OLLAMA),
    *(Route(method, "/api/{rest*}", nothing_here, "ask", OLLAMA) for method in ("GET", "POST", "PUT", "DELETE")),
)
