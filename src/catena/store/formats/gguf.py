"""GGUF: the header of a model for llama.cpp, read within bounds and checked against the file, tensor by tensor.

Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3). Sizes of the types:
ggml/src/ggml-common.h of llama.cpp; their numbers and those of `general.file_type`: gguf-py 0.19.0, constants.py.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from catena.core.errors import FormatError, UnsupportedError
from catena.core.manifest import Signature, Task, TensorSpec
from catena.store import beside
from catena.store.formats import Facts, Find, Value, path_of, plain_text
from catena.store.window import Window, opened

# What a projector is called in the store, whatever it was called elsewhere.
PROJECTOR = "mmproj.gguf"
COMPANIONS: Mapping[str, str] = {"chat_template.jinja": "template", PROJECTOR: "projector"}
# llama.cpp takes a file by path, and finds the other parts beside it by their names.
NEEDS_FOLDER = False
MAX_ENTRIES = 65_536
MAX_HEADER_BYTES = 1 << 30
MAX_KEY_BYTES = 65_535
MAX_NAME_BYTES = 256
MAX_NUMBER = 1 << 31
# What is kept in memory: texts up to this length, arrays up to these, and all of them together.
KEPT_TEXT_BYTES = 1 << 20
KEPT_NUMBERS, KEPT_TEXTS = 4096, 256
KEPT_BYTES = 16 << 20
# What a number, or the shortest text, costs in Python.
NUMBER_BYTES = 32
HASH_BYTES = 1 << 20
# Texts in arrays are stepped over one by one; a vocabulary has some 250,000.
MAX_TEXTS = 2_000_000

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# The names that llama.cpp gives and expects (llama_split_path), and a limit of our own.
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
MAX_PARTS = 1024
_ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Kind(NamedTuple):
    """A ggml type: so many elements make a block of so many bytes."""

    name: str
    block: int
    block_bytes: int


KINDS = {
    0: Kind("F32", 1, 4),
    1: Kind("F16", 1, 2),
    2: Kind("Q4_0", 32, 18),
    3: Kind("Q4_1", 32, 20),
    6: Kind("Q5_0", 32, 22),
    7: Kind("Q5_1", 32, 24),
    8: Kind("Q8_0", 32, 34),
    9: Kind("Q8_1", 32, 36),
    10: Kind("Q2_K", 256, 84),
    11: Kind("Q3_K", 256, 110),
    12: Kind("Q4_K", 256, 144),
    13: Kind("Q5_K", 256, 176),
    14: Kind("Q6_K", 256, 210),
    15: Kind("Q8_K", 256, 292),
    16: Kind("IQ2_XXS", 256, 66),
    17: Kind("IQ2_XS", 256, 74),
    18: Kind("IQ3_XXS", 256, 98),
    19: Kind("IQ1_S", 256, 50),
    20: Kind("IQ4_NL", 32, 18),
    21: Kind("IQ3_S", 256, 110),
    22: Kind("IQ2_S", 256, 82),
    23: Kind("IQ4_XS", 256, 136),
    24: Kind("I8", 1, 1),
    25: Kind("I16", 1, 2),
    26: Kind("I32", 1, 4),
    27: Kind("I64", 1, 8),
    28: Kind("F64", 1, 8),
    29: Kind("IQ1_M", 256, 56),
    30: Kind("BF16", 1, 2),
    34: Kind("TQ1_0", 256, 54),
    35: Kind("TQ2_0", 256, 66),
    39: Kind("MXFP4", 32, 17),
    40: Kind("NVFP4", 64, 36),
    41: Kind("Q1_0", 128, 18),
}
FILE_TYPES = dict(
    enumerate(
        "F32 F16 Q4_0 Q4_1 - - - Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ2_XXS "  # noqa: SIM905
        "IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16 - - - TQ1_0 TQ2_0 "
        "MXFP4_MOE NVFP4 Q1_0".split()
    )
)


class Long(Struct, frozen=True):
    """Stands for an array, or a text, that is too long to keep: how many elements, or bytes, it has.

    Of an array of texts also where in the file it is, from its first length on.
    """

    length: int
    start: int = 0
    end: int = 0


class Tensor(Struct, frozen=True):
    """One tensor: its ggml type, shape in elements (first dimension varies fastest), and where its bytes are."""

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


class Header(Struct, frozen=True):
    """All of a GGUF header. A value of `metadata` is a number, bool, text, list of these, or Long."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    @property
    def context_tokens(self) -> int:
        return self.number("context_length")

    @property
    def num_layers(self) -> int:
        return self.number("block_count")

    @property
    def num_heads(self) -> tuple[int, ...]:
        """Attention heads of each layer."""
        return self.per_layer("attention.head_count", 0)

    @property
    def num_kv_heads(self) -> tuple[int, ...]:
        """Heads of keys and values of each layer; without such a key as many as attention heads."""
        key = "attention.head_count_kv"
        return self.per_layer(key, 0) if f"{self.architecture}.{key}" in self.metadata else self.num_heads

    @property
    def key_length(self) -> int:
        """Width of one head's key, in elements."""
        return self.number("attention.key_length", self._head_width())

    @property
    def value_length(self) -> int:
        """Width of one head's value, in elements."""
        return self.number("attention.value_length", self._head_width())

    @property
    def embedding_width(self) -> int:
        return self.number("embedding_length")

    @property
    def num_vocabulary(self) -> int:
        tokens = self.metadata.get("tokenizer.ggml.tokens", [])
        return tokens.length if isinstance(tokens, Long) else len(tokens) if isinstance(tokens, list) else 0

    @property
    def chat_template(self) -> str:
        return self.text("tokenizer.chat_template")

    @property
    def num_parameters(self) -> int:
        return sum(tensor.num_elements for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """What `general.file_type` says, else the type that most bytes have."""
        number = self.metadata.get("general.file_type")
        named = FILE_TYPES.get(number, "-") if isinstance(number, int) else "-"
        if named != "-":
            return named
        sizes = Counter[str]()
        for tensor in self.tensors:
            sizes[tensor.kind] += tensor.size_bytes
        return sizes.most_common(1)[0][0] if sizes else "unknown"

    def text(self, key: str) -> str:
        """The text under `key`, empty if there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str, default: int = 0) -> int:
        """The whole number under the architecture's `key`; of a list the greatest. Raises FormatError if it is
        negative, or MAX_NUMBER or more."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return max((_checked(key, each) for each in _whole(value)), default=default)

    def per_layer(self, key: str, default: int) -> tuple[int, ...]:
        """The whole number under the architecture's `key` for each layer; at most MAX_ENTRIES layers."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            return tuple(_checked(key, each) for each in _whole(value))
        return (self.number(key, default),) * min(self.num_layers, MAX_ENTRIES)

    def _head_width(self) -> int:
        return self.embedding_width // max(1, max(self.num_heads, default=1))


def matches(head: bytes, name: str) -> bool:
    """GGUF files are known by their magic; one without it is refused by `read` if it is called so."""
    return head[:4] == b"GGUF" or name.lower().endswith(".gguf")


def read(path: Path) -> Header:
    """The header of the GGUF file at `path`, every tensor of which lies inside the file. Raises FormatError.

    Memory is bounded by KEPT_BYTES and the number of entries, time by MAX_ENTRIES and MAX_TEXTS.
    """
    with opened(path) as window:
        return _Reading(window).header()


def parts(name: str, find: Find) -> tuple[str, ...]:
    """The names of parts 2 and on, if the file called `name` is the first of several. Raises FormatError."""
    shape = _PART.fullmatch(name)
    count = _count(read(path_of(name, find)))
    if count == 1:
        return ()
    if shape is None or int(shape[3]) != count or int(shape[2]) != 1:
        raise FormatError(
            f"this GGUF file is one of {count} parts, but not called so",
            hint=f"name the first NAME-00001-of-{count:05}.gguf, and the others likewise",
        )
    return tuple(f"{shape[1]}-{number:05}-of-{count:05}.gguf" for number in range(2, count + 1))


def describe(paths: Mapping[str, Path]) -> Facts:
    """What the header says in the manifest's words. Raises FormatError, UnsupportedError."""
    header = _joined(paths)
    task = _task(header)
    values: dict[str, Value] = {
        "architecture": header.architecture,
        "quantisation": header.quantisation,
        "parameters": header.num_parameters,
        "context_tokens": header.context_tokens,
        "embedding_width": header.embedding_width,
        "layers": header.num_layers,
        "vocabulary": header.num_vocabulary,
        "title": plain_text(header.text("general.name")),
        "alpha": _alpha(header) if task == "adapter" else 0.0,
        "pooling": {1: "mean", 2: "cls", 3: "last", 4: "rank"}.get(header.number("pooling_type"), ""),
    }
    if "projector" in paths and task == "generate":
        values["modalities"] = " ".join(("text", *projects(paths["projector"])))
    template = header.chat_template or None
    if "template" in paths:
        template = beside.template(paths["template"])
    return Facts(
        task=task,
        licence=plain_text(header.text("general.license") or header.text("general.license.name")) or "unknown",
        signature=_signature(task, header),
        values={key: value for key, value in values.items() if value},
        chat_template=template if task == "generate" else None,
    )


def vocabulary(path: Path) -> tuple[str, str]:
    """How a model splits text, and a digest of its tokens in order; equal for models that read the same ids alike."""
    with opened(path) as window:
        header = _Reading(window).header()
        tokens = header.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, Long):
            digest = hashlib.sha256()
            for start in range(tokens.start, tokens.end, HASH_BYTES):
                digest.update(window.read(start, min(HASH_BYTES, tokens.end - start)))
        else:
            digest = hashlib.sha256(repr(tokens).encode())
    return header.text("tokenizer.ggml.model"), digest.hexdigest()


def is_projector(name: str) -> bool:
    """Whether a GGUF file is called like the part that turns pictures or sounds into what a language model reads."""
    return "mmproj" in name.lower() and name.lower().endswith(".gguf")


def projects(path: Path) -> tuple[str, ...]:
    """What a projector lets its model read: `image`, `audio`. Raises FormatError if the file is no projector."""
    header = read(path)
    kinds = {"image": "clip.has_vision_encoder", "audio": "clip.has_audio_encoder"}
    found = tuple(kind for kind, key in kinds.items() if header.metadata.get(key) is True)
    if header.architecture != "clip" or not found:
        raise FormatError("the projector is no GGUF file of an encoder for pictures or sounds")
    return found


def _joined(paths: Mapping[str, Path]) -> Header:
    """The header of the first part, with the tensors of all. Raises FormatError if they do not make one model."""
    first = read(paths["weights"])
    rest = [read(path) for role, path in sorted(paths.items()) if role.startswith("weights/")]
    count = _count(first)
    if rest and count == 1:
        raise FormatError("these GGUF files are models of their own, not parts of one")
    if len(rest) + 1 != count:
        raise FormatError(
            f"this GGUF model has {count} parts, of which {len(rest) + 1} are here", hint="fetch them all"
        )
    if count == 1:
        return first
    tensors = list(first.tensors)
    for number, part in enumerate([first, *rest]):
        if _count(part) != count or part.metadata.get("split.no") != number:
            raise FormatError(f"part {number + 1} of the GGUF model is not what its name says")
        tensors += part.tensors if number else ()
    claimed = first.metadata.get("split.tensors.count")
    if len(tensors) != claimed or len({tensor.name for tensor in tensors}) != claimed:
        raise FormatError("the parts of the GGUF model do not hold the tensors that the first one counts")
    return Header(first.version, first.metadata, tuple(tensors))


def _count(header: Header) -> int:
    """How many parts the model of this file has. Raises FormatError."""
    count = header.metadata.get("split.count", 0)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_PARTS:
        raise FormatError(f"the GGUF header has {count!r} parts"[:200])
    return max(count, 1)


def _task(header: Header) -> Task:
    kind = header.text("general.type") or "model"
    if not _ARCHITECTURE.fullmatch(header.architecture):
        raise FormatError("the GGUF header names no architecture")
    if kind == "adapter":
        if header.text("adapter.type") != "lora":
            raise UnsupportedError("this GGUF adapter is not a LoRA")
        return "adapter"
    if kind != "model" or header.architecture == "clip":
        raise UnsupportedError(f"this GGUF file is a part of a model ({plain_text(kind)}), not a model")
    if not header.tensors or header.context_tokens < 1:
        raise FormatError("the GGUF header has no tensors or no context length")
    if header.number("pooling_type") == 4:
        return "rerank"
    is_causal = header.metadata.get(f"{header.architecture}.attention.causal", True)
    return "embed" if not is_causal or header.number("pooling_type") else "generate"


def _signature(task: Task, header: Header) -> Signature:
    tokens = TensorSpec("tokens", "int32", (-1,), "token")
    if task == "generate":
        return Signature((tokens,), (TensorSpec("logits", "float32", (-1, header.num_vocabulary or -1)),))
    if task == "embed":
        return Signature((tokens,), (TensorSpec("embedding", "float32", (header.embedding_width or -1,)),))
    return Signature()


class _Reading:
    """One reading of a header, from front to back."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._offset = 0
        self._kept_bytes = 0
        self._num_texts = 0

    def header(self) -> Header:
        magic, version = self._take("4sI")
        if magic != b"GGUF":
            raise FormatError("this is not a GGUF file: it does not start with GGUF")
        if version not in (2, 3):
            raise FormatError(
                f"GGUF version {version} is not known", hint="versions 2 and 3, little-endian, can be read"
            )
        num_tensors, num_entries = self._take("QQ")
        if num_tensors > MAX_ENTRIES or num_entries > MAX_ENTRIES:
            raise FormatError(f"the GGUF header claims {num_tensors} tensors and {num_entries} entries")
        metadata: dict[str, Any] = {}
        for _ in range(num_entries):
            key = self._text(MAX_KEY_BYTES)
            if key in metadata:
                raise FormatError(f"the GGUF header has the key {key[:80]!r} twice")
            (kind,) = self._take("I")
            metadata[key] = self._value(kind)
        claimed = [self._tensor() for _ in range(num_tensors)]
        return Header(version, metadata, self._placed(claimed, _alignment(metadata)))

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            (length,) = self._take("Q")
            return self._kept_text(length)
        if kind == _ARRAY:
            return self._array()
        return self._numbers(kind, 1)[0]

    def _array(self) -> Any:
        kind, length = self._take("IQ")
        if kind == _STRING:
            self._num_texts += length
            if self._num_texts > MAX_TEXTS:
                raise FormatError("the GGUF header holds more texts than a vocabulary can")
            return self._texts(length) if length <= KEPT_TEXTS else self._skip_texts(length)
        if kind not in _SCALARS:
            raise FormatError(f"the GGUF header has an array of type {kind}")
        if length > KEPT_NUMBERS:
            self._skip(length * struct.calcsize(_SCALARS[kind]))
            return Long(length)
        return self._numbers(kind, length)

    def _numbers(self, kind: int, length: int) -> list[Any]:
        if kind not in _SCALARS:
            raise FormatError(f"the GGUF header has a value of type {kind}")
        letter = _SCALARS[kind]
        self._keep(NUMBER_BYTES * length)
        if letter == "?":
            bools = self._take(f"{length}B")
            if any(value > 1 for value in bools):
                raise FormatError("the GGUF header has a bool that is neither 0 nor 1")
            return [value == 1 for value in bools]
        return list(self._take(f"{length}{letter}"))

    def _texts(self, length: int) -> list[str] | Long:
        found: list[str] = []
        for _ in range(length):
            (size,) = self._take("Q")
            text = self._kept_text(size)
            found.append(text if isinstance(text, str) else "")
        return found

    def _skip_texts(self, length: int) -> Long:
        """Step over `length` texts; this is most of the work of reading a header, so the loop is flat."""
        measure = struct.Struct("<Q").unpack_from
        start = self._offset
        piece, position = self._window.piece(self._offset, 8 if length else 0)
        base = self._offset - position
        for _ in range(length):
            if position + 8 > len(piece):
                self._offset = base + position
                self._check_bounds()
                piece, position = self._window.piece(self._offset, 8)
                base = self._offset - position
            position += 8 + measure(piece, position)[0]
        self._offset = base + position
        self._check_bounds()
        return Long(length, start, self._offset)

    def _kept_text(self, length: int) -> str | Long:
        if length > KEPT_TEXT_BYTES:
            self._skip(length)
            return Long(length)
        self._keep(length + NUMBER_BYTES)
        data = self._window.read(self._offset, length)
        self._skip(length)
        # A template or token text with a stray byte is still of use; keys and names are not.
        return data.decode(errors="replace")

    def _tensor(self) -> tuple[str, Kind, tuple[int, ...], int]:
        name = self._text(MAX_NAME_BYTES)
        (num_dimensions,) = self._take("I")
        if num_dimensions > 4:
            raise FormatError(f"tensor {name!r} has {num_dimensions} dimensions")
        shape = self._take(f"{num_dimensions}Q")
        number, offset = self._take("IQ")
        if number not in KINDS:
            raise FormatError(f"tensor {name!r} has the unknown type {number}")
        return name, KINDS[number], shape, offset

    def _placed(self, claimed: list[tuple[str, Kind, tuple[int, ...], int]], alignment: int) -> tuple[Tensor, ...]:
        """The tensors with their place in the file. Raises FormatError if one leaves it or two overlap."""
        start = -(-self._offset // alignment) * alignment
        tensors: list[Tensor] = []
        for name, kind, shape, offset in claimed:
            num_elements = math.prod(shape)
            if num_elements < 1 or (shape or (1,))[0] % kind.block:
                raise FormatError(f"tensor {name!r} has the shape {shape}, which {kind.name} cannot have")
            size = num_elements // kind.block * kind.block_bytes
            if offset % alignment or start + offset + size > self._window.size:
                raise FormatError(f"tensor {name!r} is not inside the file", hint="it may be cut off: fetch it again")
            tensors.append(Tensor(name, kind.name, shape, start + offset, size))
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise FormatError("two tensors have the same name")
        end = 0
        for tensor in sorted(tensors, key=lambda each: each.offset):
            if tensor.offset < end:
                raise FormatError(f"tensor {tensor.name!r} overlaps another")
            end = tensor.offset + tensor.size_bytes
        return tuple(tensors)

    def _text(self, max_bytes: int) -> str:
        """A key or a name."""
        (length,) = self._take("Q")
        if length > max_bytes:
            raise FormatError(f"the GGUF header has a name of {length} bytes")
        self._keep(length)
        data = self._window.read(self._offset, length)
        self._skip(length)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise FormatError("the GGUF header has a name that is not UTF-8") from None

    def _take(self, shape: str) -> tuple[Any, ...]:
        """Numbers by the letters of `struct`, little-endian."""
        size = struct.calcsize(f"<{shape}")
        piece, position = self._window.piece(self._offset, size)
        values = struct.unpack_from(f"<{shape}", piece, position)
        self._skip(size)
        return values

    def _skip(self, length: int) -> None:
        self._offset += length
        self._check_bounds()

    def _check_bounds(self) -> None:
        if self._offset > min(self._window.size, MAX_HEADER_BYTES):
            raise FormatError("the file ends before its header does", hint="it may be cut off: fetch it again")

    def _keep(self, num_bytes: int) -> None:
        self._kept_bytes += num_bytes
        if self._kept_bytes > KEPT_BYTES:
            raise FormatError("the GGUF header holds more than a header should")


def _whole(value: Any) -> list[int]:
    """The whole numbers in a value that may be anything."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, int) and not isinstance(each, bool)]


def _checked(key: str, number: int) -> int:
    if not 0 <= number < MAX_NUMBER:
        raise FormatError(f"the GGUF header has {number} for {key}")
    return number


def _alpha(header: Header) -> float:
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise FormatError("the GGUF header has an alpha that is no number")
    return alpha


def _alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise FormatError(f"the GGUF header asks for an alignment of {alignment!r}")
    return alignment
