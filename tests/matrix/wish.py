"""What a cell of the matrix asks, in no protocol's words, and what came back through a door."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

PICTURE = b"\x89PNG\r\n\x1a\n-a-picture-"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


class Function(NamedTuple):
    """A tool that takes a city."""

    name: str
    description: str


@dataclass(frozen=True)
class Wish:
    """One question of a user, with what it comes with."""

    model: str
    text: str = "What is there?"
    tools: tuple[Function, ...] = ()
    schema: dict[str, Any] | None = None
    picture: bytes = b""
    think: bool = False
    max_tokens: int = 15
    is_stream: bool = True


class Called(NamedTuple):
    """A tool call as a client has it."""

    id: str
    name: str
    arguments: Any


@dataclass
class Seen:
    """An answer as a client of the door has it. `turn` is what it sends back, in the door's own form.

    `counts` are tokens: of the prompt, of the answer, from the cache (None where the door has no word for it).
    `is_whole` says whether the answer ended as the door's reference has it.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    reasoning: str = ""
    calls: list[Called] = field(default_factory=list)
    num_fragments: int = 0
    finish: str | None = None
    counts: tuple[int, int, int | None] | None = None
    error: str | None = None
    is_whole: bool = False
    turn: Any = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def warning(self) -> str:
        return self.headers.get("catena-warning", "")
