"""The library's own JSON: the chunks that it streams, as frozen structs, and its errors as ours."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from catena.core.errors import CatenaError, ContextError, EngineError, InputError
from catena.core.messages import TokenLogprob, Tokens, TopLogprob

T = TypeVar("T")


class Alternative(Struct, frozen=True):
    token: str = ""
    bytes: list[int] = []
    logprob: float = 0.0


class Chosen(Alternative, frozen=True):
    top_logprobs: list[Alternative] = []


class Logprobs(Struct, frozen=True):
    content: list[Chosen] | None = None


class Function(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class CallPiece(Struct, frozen=True):
    index: int = 0
    function: Function = Function()


class Piece(Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPiece] | None = None


class Ending(Struct, frozen=True):
    """Why a choice ended, when asked for by `verbose`: `word` is a stop text, which the library leaves out of it."""

    stop_type: str = ""
    stopping_word: str = ""


class ChoicePiece(Struct, frozen=True):
    """A piece of one choice; chat puts its text into `delta`, completions into `text`."""

    index: int = 0
    finish_reason: str | None = None
    delta: Piece | None = None
    text: str = ""
    logprobs: Logprobs | None = None


class PromptDetails(Struct, frozen=True):
    cached_tokens: int = 0


class Counts(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails = PromptDetails()


class Durations(Struct, frozen=True):
    """Milliseconds of one choice, and how many tokens were guessed ahead and rightly so."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0
    draft_n: int = 0
    draft_n_accepted: int = 0


class PromptProgress(Struct, frozen=True):
    """Prompt tokens in all and done so far; the first one comes before anything is computed."""

    total: int
    processed: int


class Failure(Struct, frozen=True):
    code: int = 500
    type: str = ""
    n_prompt_tokens: int = 0


CONTEXT_EXCEEDED = "exceed_context_size_error"


class Chunk(Struct, frozen=True):
    choices: list[ChoicePiece] = []
    usage: Counts | None = None
    timings: Durations | None = None
    prompt_progress: PromptProgress | None = None
    error: Failure | None = None
    ending: Ending | None = msgspec.field(default=None, name="__verbose")

    @property
    def stop_sequence(self) -> str | None:
        """The stop text that ended the choice, None where another reason did or nobody asked."""
        return self.ending.stopping_word if self.ending and self.ending.stop_type == "word" else None


class Token(Struct, frozen=True):
    """A token of the vocabulary; its piece is bytes where it is no text of its own."""

    id: int
    piece: str | list[int]


class _Tokens(Struct, frozen=True):
    tokens: list[Token]


class _Prompt(Struct, frozen=True):
    prompt: str


class _Content(Struct, frozen=True):
    content: str


class _Saved(Struct, frozen=True):
    n_saved: int


_decoder = msgspec.json.Decoder(Chunk)


def decode(raw: bytes) -> Chunk:
    """One streamed chunk. Raises EngineError if the library speaks another dialect than this file."""
    try:
        return _decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise EngineError("llama.cpp sent a chunk that cannot be read") from error


def decode_tokens(raw: bytes) -> Tokens:
    """The answer to /tokenize with pieces."""
    found = _decoded(raw, _Tokens).tokens
    pieces = (one.piece.encode() if isinstance(one.piece, str) else bytes(one.piece) for one in found)
    return Tokens(tuple(one.id for one in found), tuple(pieces))


def decode_prompt(raw: bytes) -> str:
    """The answer to /apply-template."""
    return _decoded(raw, _Prompt).prompt


def decode_content(raw: bytes) -> str:
    """The answer to /detokenize."""
    return _decoded(raw, _Content).content


def decode_saved(raw: bytes) -> int:
    """Tokens of the slot that was saved."""
    return _decoded(raw, _Saved).n_saved


def _decoded(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError("llama.cpp sent an answer that cannot be read") from error


def error_from(failure: Failure, num_needed: int, context_tokens: int) -> CatenaError:
    """The library's error as one of ours. Its message is left out: it may quote the prompt."""
    if failure.type == CONTEXT_EXCEEDED:
        return ContextError(failure.n_prompt_tokens + num_needed, context_tokens)
    if failure.code < 500:
        return InputError(
            "llama.cpp refused the request",
            hint="check the grammar, the token ids, and that the chat template allows this order of roles",
        )
    return EngineError("llama.cpp failed on the request")


def logprobs_from(found: Logprobs | None, num_top: int) -> tuple[TokenLogprob, ...]:
    """Log probabilities of a piece, with at most `num_top` alternatives each."""
    if found is None or not found.content:
        return ()
    return tuple(
        TokenLogprob(
            chosen.token,
            bytes(chosen.bytes),
            chosen.logprob,
            tuple(TopLogprob(top.token, bytes(top.bytes), top.logprob) for top in chosen.top_logprobs[:num_top]),
        )
        for chosen in found.content
    )
