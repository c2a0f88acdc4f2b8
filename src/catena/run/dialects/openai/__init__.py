"""OpenAI's chat completions, completions and embeddings, as OpenAI and the many servers that follow it speak them.

Sources: https://platform.openai.com/docs/api-reference; for each quirk, the services of reach/cloud/services.toml.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from catena.core.errors import CatenaError
from catena.core.messages import Embedded, EmbedRequest, GenerateRequest, Prediction, PredictRequest, Usage
from catena.run.dialects.dialect import Outgoing, impossible, vectors
from catena.run.dialects.openai.failing import refused
from catena.run.dialects.openai.quirks import NAME, QUIRKS
from catena.run.dialects.openai.reading import ModelsWire, Stream, VectorsWire, usage_of
from catena.run.dialects.openai.writing import Writer
from catena.run.dialects.shapes import JSON, decoded

__all__ = ["QUIRKS", "OpenAI", "dialect"]


class OpenAI:
    """The dialect as the API reference has it, but for the `quirks` of one service."""

    name: str = NAME
    framing: Literal["sse", "ndjson"] = "sse"
    known_quirks = QUIRKS

    def __init__(self, quirks: Collection[str] = ()) -> None:
        self.quirks = frozenset(quirks)

    def adapted(self, quirks: Collection[str], /) -> OpenAI:
        """The same dialect with these quirks."""
        return OpenAI(quirks)

    def headers(self, key: str | None, /) -> dict[str, str]:
        if key is None:
            return {}
        return {"api-key": key} if "api_key_header" in self.quirks else {"authorization": f"Bearer {key}"}

    def generate(self, request: GenerateRequest, model: str, /) -> Outgoing:
        return Writer(self.quirks).generate(request, model)

    def incoming(self, request: GenerateRequest, /) -> Stream:
        return Stream(request.sampling.num_choices)

    def embed(self, request: EmbedRequest, model: str, /) -> Outgoing:
        body: dict[str, Any] = {"model": model, "input": request.inputs, "encoding_format": "float"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return Outgoing("/embeddings", msgspec.json.encode(body), JSON)

    def embedded(self, body: bytes, request: EmbedRequest, /) -> Embedded:
        wire = decoded(NAME, body, VectorsWire)
        rows = sorted(wire.data, key=lambda row: row.index)
        packed, width = vectors(NAME, [row.embedding for row in rows], len(request.inputs))
        usage = usage_of(wire.usage) if wire.usage else Usage(0, 0, source="estimated")
        return Embedded(packed, width, usage)

    def predict(self, request: PredictRequest, model: str, /) -> Outgoing:
        raise impossible(NAME, "arrays", "model")

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest, /) -> Prediction:
        raise impossible(NAME, "arrays", "model")

    def models(self) -> Outgoing:
        return Outgoing("/models", method="GET")

    def listed(self, body: bytes, /) -> tuple[str, ...]:
        return tuple(row.id for row in decoded(NAME, body, ModelsWire).data)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, /) -> CatenaError:
        return refused(status, headers, body)


dialect = OpenAI()
