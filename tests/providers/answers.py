"""What the test provider is told to say, in no dialect's words, and what it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import msgspec


class Call(NamedTuple):
    """A tool call whose arguments stream in fragments."""

    id: str
    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """One answer and its faults. Times in seconds; a piece is what goes out in one write.

    `cut_after` pieces the answer breaks off: `reset` kills the connection, `close` ends it within a chunk, `clean` ends
    the body as if all were well. `trouble_after` pieces an error stands in the stream.
    """

    reasoning: tuple[str, ...] = ()
    text: tuple[str, ...] = ("Hello", " world")
    calls: tuple[Call, ...] = ()
    finish: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"
    prompt_tokens: int = 5
    completion_tokens: int = 2
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    has_usage: bool = True
    vectors: tuple[tuple[float, ...], ...] = ((0.6, 0.8),)
    outputs: tuple[Any, ...] = ()
    models: tuple[str, ...] = ("big", "small")
    num_tokens: int = 7
    status: int = 200
    code: str = ""
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    first_s: float = 0.0
    between_s: float = 0.0
    cut_after: int | None = None
    cut: Literal["reset", "close", "clean"] = "reset"
    trouble_after: int | None = None
    closes_unanswered: bool = False


class Asked(NamedTuple):
    """One request as it came; names of `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Reply(NamedTuple):
    """What goes out: with more than one piece as a chunked stream, else whole."""

    status: int
    content_type: str
    pieces: tuple[bytes, ...]
    is_stream: bool = False


class Speaker(Protocol):
    """One dialect, as a server speaks it. A module of this folder exports it as `speaker`."""

    base: str  # the path of the base URL

    def reply(self, asked: Asked, answer: Answer, /) -> Reply:
        """The answer to one request; what the dialect's reference does not allow is refused as a real server would."""
        ...

    def refuse(self, answer: Answer, /) -> Reply:
        """The body of an error with `answer.status`."""
        ...

    def trouble(self, answer: Answer, /) -> bytes:
        """An error inside a stream."""
        ...


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def whole(status: int, value: Any, content_type: str = "application/json") -> Reply:
    return Reply(status, content_type, (encode(value),))
