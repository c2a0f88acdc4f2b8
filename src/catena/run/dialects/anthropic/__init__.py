"""Anthropic's Messages API, version 2023-06-01: the newest version takes no temperature, top_p and top_k.

Sources: https://platform.claude.com/docs/en/api/messages, https://platform.claude.com/docs/en/api/versioning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from catena.core.errors import CatenaError
from catena.core.messages import Embedded, EmbedRequest, GenerateRequest, Prediction, PredictRequest
from catena.run.dialects.anthropic import reading, writing
from catena.run.dialects.dialect import Incoming, Outgoing, impossible

VERSION = "2023-06-01"
# The largest page that the API gives: https://platform.claude.com/docs/en/api/models/list
MODELS = "/v1/models?limit=1000"


class Anthropic:
    """Requests and answers of the Messages API, token counting and the list of models."""

    name = "anthropic"
    framing: Literal["sse"] = "sse"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}

    def generate(self, request: GenerateRequest, model: str) -> Outgoing:
        return writing.generate(request, model)

    def incoming(self, request: GenerateRequest) -> Incoming:
        return reading.Answer(request)

    def count(self, request: GenerateRequest, model: str) -> Outgoing:
        return writing.count(request, model)

    def counted(self, body: bytes) -> int:
        return reading.counted(body)

    def models(self) -> Outgoing:
        return Outgoing(MODELS, method="GET")

    def listed(self, body: bytes) -> tuple[str, ...]:
        return reading.listed(body)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
        return reading.error(status, headers, body)

    def embed(self, request: EmbedRequest, model: str) -> Outgoing:
        raise impossible(self.name, "texts to embed: the API has no embeddings")

    def embedded(self, body: bytes, request: EmbedRequest) -> Embedded:
        raise impossible(self.name, "vectors")

    def predict(self, request: PredictRequest, model: str) -> Outgoing:
        raise impossible(self.name, "arrays")

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest) -> Prediction:
        raise impossible(self.name, "arrays")


dialect = Anthropic()
