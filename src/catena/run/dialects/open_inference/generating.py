"""One text in, pieces of text out: generate_stream, and the repository's list of models.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from catena.core.errors import CatenaError, NetworkError
from catena.core.messages import ChatRequest, CompletionRequest, Delta, Event, Finished, GenerateRequest, Text
from catena.run.dialects.dialect import Outgoing, impossible, lost, refusal
from catena.run.dialects.shapes import JSON, decoded, encode

NAME = "open_inference"
# The protocol leaves the names of parameters to models; these are what language models behind it are asked with.
_PARAMETERS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repetition_penalty",
    "seed": "seed",
}


class PieceWire(Struct, frozen=True):
    """One event of a stream: a piece of the text, or an error."""

    text_output: str | None = None
    error: str | None = None


class ModelWire(Struct, frozen=True):
    name: str


def generate(request: GenerateRequest, model: str) -> Outgoing:
    """POST generate_stream. Raises UnsupportedError for all that is more than one text."""
    names = list(lost(request, (*_PARAMETERS, "ignore_eos")))
    body: dict[str, Any] = {"text_input": _text(request, names)}
    parameters = _parameters(request)
    if isinstance(request, CompletionRequest) and request.echo:
        parameters["exclude_input_in_output"] = False
    body["parameters"] = parameters
    return Outgoing(f"/v2/models/{quote(model, safe='')}/generate_stream", encode(body), JSON, lost=tuple(names))


def _text(request: GenerateRequest, names: list[str]) -> str:
    if request.adapters:
        raise impossible(NAME, "adapters", "adapters")
    if request.output.kind != "text":
        raise impossible(NAME, "a form of the answer", "response_format")
    if isinstance(request, ChatRequest):
        return _only_text(request, names)
    if not isinstance(request.prompt, str):
        raise impossible(NAME, "a prompt of token ids", "prompt")
    if request.suffix:
        raise impossible(NAME, "a suffix", "suffix")
    return request.prompt


def _only_text(request: ChatRequest, names: list[str]) -> str:
    """The one thing that the user says: there are no roles, so who said what of several turns would be lost."""
    if request.tools:
        raise impossible(NAME, "tools", "tools")
    if len(request.messages) != 1 or request.messages[0].role != "user":
        raise impossible(NAME, "a conversation: it takes one text of the user", "messages")
    parts = request.messages[0].parts
    if not all(isinstance(part, Text) for part in parts):
        raise impossible(NAME, "images or sounds", "messages")
    names.append("messages.role")
    if request.messages[0].name:
        names.append("messages.name")
    return "".join(part.text for part in parts if isinstance(part, Text))


def _parameters(request: GenerateRequest) -> dict[str, Any]:
    """The parameters: each a text, a number or a truth value, so there can be one stop text."""
    wished = request.sampling
    if wished.num_choices != 1:
        raise impossible(NAME, "more than one choice", "n")
    if wished.logprobs is not None:
        raise impossible(NAME, "log probabilities", "logprobs")
    if len(wished.stop) > 1:
        raise impossible(NAME, "more than one stop text", "stop")
    named = {word: getattr(wished, name) for name, word in _PARAMETERS.items()}
    found = {word: value for word, value in named.items() if value is not None}
    if wished.stop:
        found["stop"] = wished.stop[0]
    if wished.ignore_eos:
        found["ignore_eos"] = True
    return found


class Answer:
    """One stream while it is read. The protocol has no mark for an end and no reasons: the whole body is the answer."""

    def read(self, event: str, data: bytes) -> Iterator[Event]:
        wire = decoded(NAME, data, PieceWire)
        if wire.error is not None:
            raise NetworkError("the provider failed in the middle of the answer", hint="ask again")
        if wire.text_output:
            yield Delta(text=wire.text_output)

    def end(self) -> Iterable[Event]:
        return (Finished(0, "stop"),)


def models() -> Outgoing:
    """The protocol itself lists no models; the extension for repositories does."""
    return Outgoing("/v2/repository/index", b"{}", JSON)


def listed(body: bytes) -> tuple[str, ...]:
    """The names of models, each once however many versions it has. Raises NetworkError."""
    return tuple(dict.fromkeys(model.name for model in decoded(NAME, body, list[ModelWire])))


def error(status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
    """What an answer with an error's status means: its body says it in a sentence only."""
    return refusal(status, headers)
