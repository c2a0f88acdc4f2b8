"""Writes GGUF and ONNX files from their specifications, right or wrong."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

Entry = tuple[str, int, Any]
LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


class Gguf:
    """Writes GGUF files from the specification, right or wrong."""

    TINY: tuple[Entry, ...] = (
        ("general.architecture", 8, "llama"),
        ("general.name", 8, "Tiny"),
        ("general.license", 8, "apache-2.0"),
        ("llama.context_length", 4, 128),
        ("llama.embedding_length", 4, 64),
        ("llama.block_count", 4, 2),
        ("llama.attention.head_count", 4, 4),
        ("llama.attention.head_count_kv", 9, (4, (2, 1))),
        ("llama.rope.freq_base", 6, 10000.0),
        ("tokenizer.ggml.add_bos_token", 7, True),
        ("tokenizer.ggml.tokens", 9, (8, [f"t{number}" for number in range(300)])),
        ("tokenizer.ggml.token_type", 9, (5, [1] * 5000)),
        ("tokenizer.chat_template", 8, "{{ messages }}"),
    )
    TENSORS = (("token_embd.weight", (64, 4), 8, 272), ("blk.0.attn_q.weight", (32, 3), 3, 60), ("norm", (4,), 0, 16))

    def value(self, kind: int, value: Any) -> bytes:
        if kind == 8:
            return text(value)
        if kind == 9:
            inner, values = value
            return struct.pack("<IQ", inner, len(values)) + b"".join(self.value(inner, each) for each in values)
        return struct.pack(f"<{LETTERS[kind]}", value)

    def entry(self, entry: Entry) -> bytes:
        key, kind, value = entry
        return text(key) + struct.pack("<I", kind) + self.value(kind, value)

    def file(
        self,
        entries: Sequence[Entry] = TINY,
        tensors: Sequence[tuple[str, tuple[int, ...], int, int]] = TENSORS,
        *,
        version: int = 3,
        alignment: int = 32,
        counts: tuple[int, int] | None = None,
        offsets: Sequence[int] | None = None,
    ) -> bytes:
        num_tensors, num_entries = counts or (len(tensors), len(entries))
        data = struct.pack("<4sIQQ", b"GGUF", version, num_tensors, num_entries)
        data += b"".join(map(self.entry, entries))
        body = b""
        for number, (name, shape, kind, size) in enumerate(tensors):
            offset = offsets[number] if offsets else len(body)
            data += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
            body += bytes(os.urandom(size)) + bytes(-size % alignment)
        return data + bytes(-len(data) % alignment) + body

    def with_entries(self, *entries: Entry) -> bytes:
        """The tiny model with these entries in place of those with the same keys."""
        replaced = {entry[0]: entry for entry in (*self.TINY, *entries)}
        return self.file(tuple(replaced.values()))


class Onnx:
    """Writes ONNX files as protobuf, right or wrong."""

    def varint(self, number: int) -> bytes:
        data = bytearray()
        number &= (1 << 64) - 1
        while number > 0x7F:
            data.append(number & 0x7F | 0x80)
            number >>= 7
        return bytes((*data, number))

    def field(self, number: int, value: int | bytes | str) -> bytes:
        if isinstance(value, int):
            return self.varint(number << 3) + self.varint(value)
        data = value.encode() if isinstance(value, str) else value
        return self.varint(number << 3 | 2) + self.varint(len(data)) + data

    def port(self, name: str, dtype: int, shape: Sequence[int | str]) -> bytes:
        lengths = b"".join(
            self.field(1, self.field(2, each) if isinstance(each, str) else self.field(1, each)) for each in shape
        )
        tensor = self.field(1, dtype) + self.field(2, lengths)
        return self.field(1, name) + self.field(2, self.field(1, tensor))

    def tensor(self, name: str, shape: Sequence[int], dtype: int, raw: bytes) -> bytes:
        return (
            b"".join(self.field(1, length) for length in shape)
            + self.field(2, dtype)
            + self.field(8, name)
            + self.field(9, raw)
        )

    def graph(
        self, *, outputs: Sequence[bytes] = (), weights: Sequence[bytes] = (), nodes: Sequence[bytes] = ()
    ) -> bytes:
        inputs = [self.port(name, 7, ("batch", "tokens")) for name in ("input_ids", "attention_mask")]
        hidden = outputs or [self.port("last_hidden_state", 1, ("batch", "tokens", 8))]
        tensors = weights or [self.tensor("w", (4, 8), 1, os.urandom(128)), self.tensor("q", (8,), 3, os.urandom(8))]
        return (
            b"".join(self.field(1, node) for node in (nodes or [self.field(4, "MatMul")]))
            + self.field(2, "tiny")
            + b"".join(self.field(5, each) for each in tensors)
            + b"".join(self.field(11, each) for each in inputs)
            + b"".join(self.field(12, each) for each in hidden)
        )

    def file(self, graph: bytes | None = None) -> bytes:
        opset = self.field(1, "") + self.field(2, 17)
        return self.field(1, 8) + self.field(7, self.graph() if graph is None else graph) + self.field(8, opset)
