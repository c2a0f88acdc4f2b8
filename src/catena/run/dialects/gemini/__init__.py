"""Google's Gemini API, version v1beta: streamGenerateContent, batchEmbedContents, countTokens, the list of models.

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/embeddings, https://ai.google.dev/api/models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from catena.core.errors import CatenaError
from catena.core.messages import Embedded, EmbedRequest, GenerateRequest, Prediction, PredictRequest
from catena.run.dialects.dialect import Incoming, Outgoing, impossible
from catena.run.dialects.gemini import failing, reading, writing

# The largest page that the API gives.
MODELS = "/v1beta/models?pageSize=1000"


class Gemini:
    """Requests and answers of the Gemini API."""

    name = "gemini"
    framing: Literal["sse"] = "sse"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def generate(self, request: GenerateRequest, model: str) -> Outgoing:
        return writing.generate(request, model)

    def incoming(self, request: GenerateRequest) -> Incoming:
        return reading.Answer(request)

    def count(self, request: GenerateRequest, model: str) -> Outgoing:
        return writing.count(request, model)

    def counted(self, body: bytes) -> int:
        return reading.counted(body)

    def embed(self, request: EmbedRequest, model: str) -> Outgoing:
        return writing.embed(request, model)

    def embedded(self, body: bytes, request: EmbedRequest) -> Embedded:
        return reading.embedded(body, request)

    def models(self) -> Outgoing:
        return Outgoing(MODELS, method="GET")

    def listed(self, body: bytes) -> tuple[str, ...]:
        return reading.listed(body)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
        return failing.error(status, headers, body)

    def predict(self, request: PredictRequest, model: str) -> Outgoing:
        raise impossible(self.name, "arrays")

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest) -> Prediction:
        raise impossible(self.name, "arrays")


dialect = Gemini()
