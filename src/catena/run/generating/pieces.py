"""The bytes that each token of a Hugging Face tokenizer stands for, so that text can be written token by token."""

from __future__ import annotations

import json
import re

from catena.core.errors import MissingExtraError

try:
    import tokenizers
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "tokenizers", "torch") from error

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in SentencePiece vocabularies


class Pieces:
    """Bytes of tokens by their ids. `specials` are those that text is not made of."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.specials = frozenset(id for id, token in added.items() if token.special)
        self._added = {id: token.content for id, token in added.items()}
        self._letters = _byte_letters() if '"ByteLevel"' in _decoder(tokenizer) else None

    def of(self, id: int) -> bytes:
        """The bytes of one token; nothing for an id without one."""
        if id in self._added:
            return self._added[id].encode()
        token = self._tokenizer.id_to_token(id) or ""
        if self._letters is not None:
            return bytes(self._letters[letter] for letter in token if letter in self._letters)
        shape = _BYTE.fullmatch(token)
        return bytes([int(shape[1], 16)]) if shape else token.replace(_SPACE, " ").encode()


def _decoder(tokenizer: tokenizers.Tokenizer) -> str:
    """How the tokenizer says that it puts text together again."""
    return json.dumps(json.loads(tokenizer.to_str()).get("decoder"))


def _byte_letters() -> dict[str, int]:
    """The letter for each byte in byte-level vocabularies: itself if it can be seen, else one from U+0100 on.

    Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode.
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + index): byte for index, byte in enumerate(others)}
