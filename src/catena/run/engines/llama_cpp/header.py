"""What the engine must know of a GGUF file before loading it: context, cache size per token, template, vocabulary.

Source of the layout: GGUF specification, version 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
The store has checked the file when it took it in; a header that cannot be read here is a FormatError all the same.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from msgspec import Struct

from catena.core.errors import FormatError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_ENTRIES = 65_536
_KEPT_ELEMENTS = 4_096


class Header(Struct, frozen=True):
    """Facts of a GGUF file; `cache_token_bytes` is the size of one token's keys and values in 16-bit floats."""

    context_tokens: int
    cache_token_bytes: int
    num_vocabulary: int
    template: str


def read(path: Path) -> Header:
    """The header of the GGUF file at `path`. Raises FormatError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _facts(_metadata(data))
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise FormatError(f"{path.name} is not a readable GGUF file", hint="run `catena verify` on it") from error


def _facts(found: dict[str, Any]) -> Header:
    architecture = str(found.get("general.architecture", ""))

    def number(key: str, default: int = 0) -> int:
        value = found.get(f"{architecture}.{key}", default)
        return max(value) if isinstance(value, list) else int(value)

    num_layers, num_heads = number("block_count"), max(1, number("attention.head_count", 1))
    heads = found.get(f"{architecture}.attention.head_count_kv", num_heads)
    num_cached = sum(heads) if isinstance(heads, list) else int(heads) * num_layers
    width = number("embedding_length") // num_heads
    values = number("attention.key_length", width) + number("attention.value_length", width)
    return Header(
        context_tokens=number("context_length"),
        cache_token_bytes=num_cached * values * 2,
        num_vocabulary=int(found.get("tokenizer.ggml.tokens", 0)),
        template=str(found.get("tokenizer.chat_template", "")),
    )


def _metadata(data: mmap.mmap) -> dict[str, Any]:
    """All key-value pairs; of a long array only its length."""
    magic, version, _, num_entries = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version not in (2, 3) or num_entries > _MAX_ENTRIES:
        raise ValueError("not GGUF")
    found: dict[str, Any] = {}
    offset = 24
    for _ in range(num_entries):
        key, offset = _text(data, offset)
        (kind,) = struct.unpack_from("<I", data, offset)
        found[key], offset = _value(data, offset + 4, kind)
    return found


def _value(data: mmap.mmap, offset: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _text(data, offset)
    if kind == _ARRAY:
        return _array(data, offset)
    if kind not in _SCALARS:
        raise ValueError("unknown type")
    (value,) = struct.unpack_from(_SCALARS[kind], data, offset)
    return value, offset + struct.calcsize(_SCALARS[kind])


def _array(data: mmap.mmap, offset: int) -> tuple[Any, int]:
    kind, length = struct.unpack_from("<IQ", data, offset)
    offset += 12
    if length > len(data):
        raise ValueError("array longer than the file")
    if kind == _STRING:
        for _ in range(length):
            (size,) = struct.unpack_from("<Q", data, offset)
            offset += 8 + size
        return length, offset
    if kind not in _SCALARS:
        raise ValueError("nested array")
    size = struct.calcsize(_SCALARS[kind])
    if length > _KEPT_ELEMENTS:
        return length, offset + length * size
    return list(struct.unpack_from(f"<{length}{_SCALARS[kind][1]}", data, offset)), offset + length * size


def _text(data: mmap.mmap, offset: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<Q", data, offset)
    start, end = offset + 8, offset + 8 + size
    if end > len(data):
        raise ValueError("text longer than the file")
    return data[start:end].decode(), end
