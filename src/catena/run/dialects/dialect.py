"""What a dialect is: a request of ours as the bytes another model server takes, and its answer as events of ours.

Knows no network and no dialect. A dialect is one file that exports `dialect`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import (
    BusyError,
    CatenaError,
    ExpiredError,
    InputError,
    NetworkError,
    NotFoundError,
    ProviderError,
    TooLargeError,
    UnsupportedError,
)
from catena.core.messages import (
    ChatRequest,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Prediction,
    PredictRequest,
    Sampling,
)


class Outgoing(Struct, frozen=True):
    """One HTTP request as it is to leave: path below the base URL, exact bytes of the body, headers beside the key's.

    `lost`: the wishes that this dialect cannot carry, by their names in core.messages (`sampling.top_k`, `think`).
    """

    path: str
    body: bytes = b""
    headers: dict[str, str] = {}
    method: str = "POST"
    lost: tuple[str, ...] = ()


class Incoming(Protocol):
    """One streamed answer while it is read."""

    def read(self, event: str, data: bytes, /) -> Iterable[Event]:
        """Take one event of a server-sent stream (its name or ""), or one line of NDJSON.

        Raises the mapped CatenaError for an error inside the stream, NetworkError for what is not of the dialect.
        """
        ...

    def end(self) -> Iterable[Event]:
        """The body ended. Raises NetworkError when the answer was not complete."""
        ...


class Writing(Protocol):
    """The way out: requests as bytes. Each raises UnsupportedError for what cannot be carried and must not be dropped:
    tools, tool_choice, a schema or grammar, images, audio, num_choices, logprobs, stop, adapters."""

    def generate(self, request: GenerateRequest, model: str, /) -> Outgoing:
        """Ask `model` for an answer, always as a stream."""
        ...

    def embed(self, request: EmbedRequest, model: str, /) -> Outgoing:
        """Ask for vectors."""
        ...

    def predict(self, request: PredictRequest, model: str, /) -> Outgoing:
        """Ask for arrays."""
        ...

    def models(self) -> Outgoing:
        """Ask which models there are."""
        ...


class Reading(Protocol):
    """The way back: answers as messages. Each raises NetworkError for bytes that are not of the dialect."""

    def incoming(self, request: GenerateRequest, /) -> Incoming:
        """A reader for the stream that answers `request`."""
        ...

    def embedded(self, body: bytes, request: EmbedRequest, /) -> Embedded:
        """The vectors in a whole body."""
        ...

    def predicted(self, body: bytes, headers: Mapping[str, str], request: PredictRequest, /) -> Prediction:
        """The arrays in a whole body; names of `headers` are in lower case."""
        ...

    def listed(self, body: bytes, /) -> tuple[str, ...]:
        """The names of models in a whole body."""
        ...


class Dialect(Writing, Reading, Protocol):
    """One way that model servers are spoken to."""

    @property
    def name(self) -> str: ...
    @property
    def framing(self) -> Literal["sse", "ndjson"]: ...

    def headers(self, key: str | None, /) -> dict[str, str]:
        """How the key is shown, and what goes with every request."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, /) -> CatenaError:
        """What an answer with an error's status means; names of `headers` are in lower case."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A dialect with a route of its own for counting the tokens of a prompt."""

    def count(self, request: GenerateRequest, model: str, /) -> Outgoing:
        """Ask how many tokens the prompt has."""
        ...

    def counted(self, body: bytes, /) -> int:
        """The count in a whole body. Raises NetworkError."""
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A dialect whose speakers differ; `known_quirks` are the words for how."""

    @property
    def known_quirks(self) -> frozenset[str]: ...

    def adapted(self, quirks: Collection[str], /) -> Dialect:
        """The dialect as one service speaks it."""
        ...


# Wishes that only colour an answer: a dialect that does not carry one says so in `Outgoing.lost`.
COLOURS = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty", "seed"),
    *("logit_bias", "ignore_eos"),
)
_OPEN = Sampling()
MAX_RETRY_AFTER_S = 3600.0
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")


def lost(request: GenerateRequest, carried: Collection[str]) -> tuple[str, ...]:
    """The colouring wishes of `request` that are not among `carried` (`top_k`, `think`), named as in Outgoing."""
    names = [
        f"sampling.{name}"
        for name in COLOURS
        if name not in carried and getattr(request.sampling, name) != getattr(_OPEN, name)
    ]
    if isinstance(request, ChatRequest):
        if request.think is not None and "think" not in carried:
            names.append("think")
        if request.tools and not request.parallel_tool_calls and "parallel_tool_calls" not in carried:
            names.append("parallel_tool_calls")
    return tuple(names)


def impossible(dialect: str, wish: str, param: str | None = None) -> UnsupportedError:
    """The error for a wish that `dialect` has no words for and that must not be dropped."""
    return UnsupportedError(
        f"the {dialect} dialect cannot carry {wish}", hint="ask a model that is reached another way", param=param
    )


def malformed(dialect: str, what: str) -> NetworkError:
    """The error for an answer that is not of the dialect; `what` is never a quotation from it."""
    return NetworkError(
        f"the provider's answer is not of the {dialect} dialect: {what}", hint="check kind and base_url"
    )


def cut() -> NetworkError:
    """The error for a stream that ended before its answer did."""
    return NetworkError("the provider's answer was cut before its end", hint="ask again")


def vectors(dialect: str, rows: Sequence[Sequence[float]], num_inputs: int) -> tuple[tuple[bytes, ...], int]:
    """`rows` as Embedded has them (little-endian float32, of length 1) and their width.

    Raises NetworkError unless there is one vector of one width for each input.
    """
    width = len(rows[0]) if rows else 0
    if len(rows) != num_inputs or not width or any(len(row) != width for row in rows):
        raise malformed(dialect, "not one vector of one width for each input")
    packed: list[bytes] = []
    for row in rows:
        norm = math.sqrt(math.fsum(value * value for value in row))
        if not math.isfinite(norm):
            raise malformed(dialect, "a vector that is not finite")
        scale = 1.0 if norm == 0 or abs(norm - 1) < 1e-3 else 1 / norm
        packed.append(struct.pack(f"<{width}f", *(value * scale for value in row)))
    return tuple(packed), width


def refusal(status: int, headers: Mapping[str, str], code: str = "", param: str | None = None) -> CatenaError:
    """What an error's status means here. `code` is the provider's own word for it, shown only if it is one word.

    The provider's sentences are never passed on: they may quote the question, or the key.
    """
    word = f" ({code})" if _CODE.fullmatch(code) else ""
    match status:
        case 401 | 402 | 403:
            return ProviderError(
                f"the provider refused this gateway's own key or account, with status {status}{word}",
                hint="whoever runs the gateway: check the key that this provider's key_env names, its rights and funds",
            )
        case 404:
            return NotFoundError(
                f"the provider has no such model or route{word}",
                hint="check the model's name and base_url",
                param="model",
            )
        case 408 | 504:
            return ExpiredError(f"the provider gave up waiting, with status {status}{word}", hint="ask again")
        case 413:
            return TooLargeError(f"the request is larger than the provider takes{word}", hint="shorten it")
        case 429 | 529:
            return BusyError(
                f"the provider takes no more requests for now, with status {status}{word}",
                retry_after_s=retry_after_s(headers),
            )
        case _ if 400 <= status < 500:
            return InputError(f"the provider refused the request, with status {status}{word}", param=param)
        case _ if 300 <= status < 400:
            return NetworkError(f"the provider points elsewhere, with status {status}", hint="check base_url")
        case _:
            return NetworkError(f"the provider failed, with status {status}{word}", hint="ask again later")


def retry_after_s(headers: Mapping[str, str]) -> float:
    """How long a provider asks to be left alone, in seconds: `retry-after-ms`, else `retry-after`, else 1."""
    text = headers.get("retry-after-ms", "")
    seconds = _number(text) / 1000 if _is_number(text) else _retry_after(headers.get("retry-after", ""))
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _retry_after(text: str) -> float:
    if _is_number(text):
        return _number(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 1.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.fromtimestamp(now_ns() / 1e9, UTC)).total_seconds()


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is not None


def _number(text: str) -> float:
    return float(text)
