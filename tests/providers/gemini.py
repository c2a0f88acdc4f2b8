"""The shapes of the Gemini API, as its reference has them: whole calls, of which the first is signed, usage everywhere.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from tests.providers.answers import Answer, Asked, Reply, encode, whole
from tests.providers.server import nothing_here

FIELDS = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
CONFIG = {
    *("temperature", "topP", "topK", "presencePenalty", "frequencyPenalty", "seed", "maxOutputTokens", "stopSequences"),
    *("candidateCount", "responseLogprobs", "logprobs", "responseMimeType", "responseJsonSchema", "thinkingConfig"),
}
PARTS = {"text", "inlineData", "functionCall", "functionResponse", "thoughtSignature"}
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
STOPS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
SIGNATURE = "CsgBc2lnbmVk"
_ROUTE = re.compile(r"/v1beta/(models|tunedModels)/([^/:?]+):(\w+)(\?alt=sse)?")


class Gemini:
    base = ""

    def reply(self, asked: Asked, answer: Answer, /) -> Reply:
        if asked.method == "GET" and asked.path.startswith("/v1beta/models?"):
            return whole(200, {"models": [{"name": f"models/{name}", "version": "1"} for name in answer.models]})
        route = _ROUTE.fullmatch(asked.path)
        match route and (route[3], route[4]):
            case "countTokens", None:
                return whole(200, {"totalTokens": answer.num_tokens})
            case "batchEmbedContents", None:
                return whole(200, {"embeddings": [{"values": list(row)} for row in answer.vectors]})
            case "streamGenerateContent", "?alt=sse":
                stream = Reply(200, "text/event-stream", tuple(pieces(asked.json, answer)), True)
                return _checked(asked.json) or stream
            case _:
                return nothing_here(asked)

    def refuse(self, answer: Answer, /) -> Reply:
        return whole(answer.status, _error(answer.status, answer))

    def trouble(self, answer: Answer, /) -> bytes:
        return b"data: " + encode(_error(503, answer)) + b"\n\n"


speaker = Gemini()


def pieces(body: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    """The events of a stream, one a piece; counts grow with it, cached tokens are among the prompt's."""
    counts = {"promptTokenCount": answer.prompt_tokens, "thoughtsTokenCount": answer.reasoning_tokens}
    if answer.cached_tokens:
        counts["cachedContentTokenCount"] = answer.cached_tokens
    counts["candidatesTokenCount"] = answer.completion_tokens - answer.reasoning_tokens
    counts["totalTokenCount"] = answer.prompt_tokens + answer.completion_tokens
    rows = [[part] for part in _parts(answer)]
    calls = [{"functionCall": {"name": call.name, "args": _object(call.arguments)}} for call in answer.calls]
    if calls:
        rows.append([{**calls[0], "thoughtSignature": SIGNATURE}, *calls[1:]])
    elif answer.reasoning:
        rows.append([{"text": "", "thoughtSignature": SIGNATURE}])
    for index in range((body.get("generationConfig") or {}).get("candidateCount", 1)):
        for position, parts in enumerate(rows or [[]]):
            candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
            if position == max(len(rows) - 1, 0):
                candidate["finishReason"] = STOPS[answer.finish]
            chunk: dict[str, Any] = {"candidates": [candidate], "modelVersion": "test", "responseId": "rEsP"}
            yield b"data: " + encode(chunk | ({"usageMetadata": counts} if answer.has_usage else {})) + b"\n\n"


def _parts(answer: Answer) -> Iterator[dict[str, Any]]:
    yield from ({"text": piece, "thought": True} for piece in answer.reasoning)
    yield from ({"text": piece} for piece in answer.text)


def _object(arguments: tuple[str, ...]) -> Any:
    return msgspec.json.decode("".join(arguments) or "{}")


def _checked(body: dict[str, Any]) -> Reply | None:
    """What the API would refuse: unknown fields and parts, results without a name, signatures that are not its own."""
    unknown = (set(body) - FIELDS) | (set(body.get("generationConfig") or {}) - CONFIG)
    for content in body["contents"]:
        if content["role"] not in ("user", "model"):
            unknown.add("role")
        for part in content["parts"]:
            unknown |= set(part) - PARTS
            if part.get("thoughtSignature", SIGNATURE) != SIGNATURE:
                unknown.add("thoughtSignature")
            if "name" not in part.get("functionResponse", {"name": ""}):
                unknown.add("functionResponse")
    return whole(400, _error(400, Answer(message=f"Unknown name {sorted(unknown)}"))) if unknown else None


def _error(status: int, answer: Answer) -> dict[str, Any]:
    word = answer.code or STATUSES.get(status, "UNAVAILABLE")
    return {"error": {"code": status, "message": answer.message, "status": word}}
