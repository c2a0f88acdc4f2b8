"""The Open Inference Protocol, version 2, over HTTP, with three extensions: generate, binary tensor data, repository.

Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md,
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from catena.core.errors import CatenaError
from catena.core.messages import Embedded, EmbedRequest, GenerateRequest, Prediction, PredictRequest
from catena.run.dialects.dialect import Incoming, Outgoing, impossible
from catena.run.dialects.open_inference import arrays, generating


class OpenInference:
    """Requests and answers of the protocol. Quirk `json_tensors`: the server reads arrays in JSON only."""

    name = "open_inference"
    framing: Literal["sse"] = "sse"
    known_quirks = frozenset({"json_tensors"})

    def __init__(self, quirks: Collection[str] = ()) -> None:
        self.quirks = frozenset(quirks)

    def adapted(self, quirks: Collection[str]) -> OpenInference:
        """The same dialect with these quirks."""
        return OpenInference(quirks)

    def headers(self, key: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def generate(self, request: GenerateRequest, model: str) -> Outgoing:
        return generating.generate(request, model)

    def incoming(self, request: GenerateRequest) -> Incoming:
        return generating.Answer()

    def predict(self, request: PredictRequest, model: str) -> Outgoing:
        return arrays.predict(request, model, is_binary="json_tensors" not in self.quirks)

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest) -> Prediction:
        return arrays.predicted(body, headers, request)

    def models(self) -> Outgoing:
        return generating.models()

    def listed(self, body: bytes) -> tuple[str, ...]:
        return generating.listed(body)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
        return generating.error(status, headers, body)

    def embed(self, request: EmbedRequest, model: str) -> Outgoing:
        raise impossible(self.name, "texts to embed: the protocol names no input for them", "model")

    def embedded(self, body: bytes, request: EmbedRequest) -> Embedded:
        raise impossible(self.name, "vectors", "model")


dialect = OpenInference()
