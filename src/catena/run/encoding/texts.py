"""Texts for encoder models: their tokenizer, rows of token ids, and batches that are padded as little as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from catena.core.errors import FormatError, InputError, MissingExtraError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.core.messages import DetokeniseRequest, TokeniseRequest, Tokens

try:
    import numpy
    import tokenizers
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "numpy", "onnx") from error

INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
BATCH_ROWS, BATCH_TOKENS = 32, 4096
DEFAULT_CONTEXT_TOKENS = 512
# Weights, their prepacked copy, and the arena of one batch; measured as growth of resident memory.
MEMORY_FACTOR = 4
MEMORY_BYTES = 8 << 20  # what a session of even the smallest model takes


class Row(NamedTuple):
    """Token ids, and of a pair which text each belongs to (0 or 1); None: all to the first."""

    ids: Sequence[int]
    types: Sequence[int] | None = None


def read_tokenizer(model: StoredModel) -> tokenizers.Tokenizer:
    """The tokenizer of `model`, without the truncation and padding that its file may ask for. Raises FormatError."""
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(model.path("tokenizer")))
    except Exception as error:
        raise FormatError(
            f"the tokenizer of {model.name} cannot be read", hint=f"run `catena verify {model.name}`"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokens(tokenizer: tokenizers.Tokenizer, request: TokeniseRequest) -> Tokens:
    """`request` for an encoder, which reads no conversations. Raises UnsupportedError for one."""
    if not isinstance(request.text, str):
        raise UnsupportedError(f"{request.model} has no chat template", hint="send a text", param="messages")
    tokenizer.encode_special_tokens = not request.reads_special
    try:
        found = tokenizer.encode(request.text, add_special_tokens=request.adds_special)
    finally:
        tokenizer.encode_special_tokens = False
    return Tokens(tuple(found.ids), tuple(token.encode() for token in found.tokens))


def text(tokenizer: tokenizers.Tokenizer, request: DetokeniseRequest) -> str:
    """The text of token ids. Raises InputError for one outside the vocabulary."""
    size = tokenizer.get_vocab_size()
    if not all(0 <= token < size for token in request.ids):
        raise InputError(f"a token id is outside the vocabulary of {size}", param="tokens")
    return tokenizer.decode(list(request.ids), skip_special_tokens=False)


def batches(lengths: list[int], max_rows: int) -> list[list[int]]:
    """Indices into `lengths`, shortest first, so that little is padded; a batch is bounded in rows and in tokens."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = found[-1] if found else []
        if not last or len(last) >= max_rows or (len(last) + 1) * lengths[index] > BATCH_TOKENS:
            found.append([index])
        else:
            last.append(index)
    return found


def padded(rows: Sequence[Row]) -> dict[str, NDArray[numpy.int64]]:
    """What an encoder takes, by name, each rows x tokens."""
    ids = numpy.zeros((len(rows), max(len(row.ids) for row in rows)), dtype=numpy.int64)
    mask, types = numpy.zeros_like(ids), numpy.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = row.ids
        mask[index, : len(row.ids)] = 1
        if row.types is not None:
            types[index, : len(row.types)] = row.types
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
