"""Texts to tokens and back: what is asked of a model's tokeniser and what comes back."""

from __future__ import annotations

from msgspec import Struct

from catena.core.messages.chat import ChatRequest


class TokeniseRequest(Struct, frozen=True, tag="tokenise"):
    """A text, or a conversation as the model's chat template writes it, to be split into tokens.

    `adds_special`: with the tokens that the model puts around a text. `reads_special`: the name of a special token in
    a text is that token, not its letters.
    """

    model: str
    text: str | ChatRequest
    adds_special: bool = True
    reads_special: bool = True


class DetokeniseRequest(Struct, frozen=True, tag="detokenise"):
    """Token ids to be written as text, special tokens by their names."""

    model: str
    ids: tuple[int, ...]


class Tokens(Struct, frozen=True):
    """The ids of tokens, and the bytes that each stands for, which may be a part of a letter only."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
