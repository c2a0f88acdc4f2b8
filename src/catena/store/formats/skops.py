"""skops: what a scikit-learn model takes and gives, read from the schema inside its zip, without loading anything.

Source of the layout: https://skops.readthedocs.io/en/stable/persistence.html and files that skops 0.16 writes. The zip
holds `schema.json`, a tree of nodes, and one .npy file for each array (https://numpy.org/neps/nep-0001-npy-format.html).
"""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from catena.core.errors import FormatError, UnsupportedError
from catena.core.manifest import Signature, TensorSpec
from catena.store.formats import Facts, Find, Value, plain_text

COMPANIONS: Mapping[str, str] = {}
NEEDS_FOLDER = False
SCHEMA = "schema.json"
MAX_ENTRIES = 65_536
MAX_SCHEMA_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 8 << 30
# A zip that claims more than this many bytes for each that it takes is made to fill a memory.
MAX_RATIO = 1000
MAX_NPY_HEADER_BYTES = 4096
MAX_FEATURES = 1 << 24
MAX_DEPTH = 64
MAX_NODES = 4_000_000
# Classifiers without probabilities: `decision_function` is all that they have.
_NO_PROBABILITIES = frozenset(
    {
        "LinearSVC",
        "NearestCentroid",
        "PassiveAggressiveClassifier",
        "Perceptron",
        "RidgeClassifier",
        "RidgeClassifierCV",
    }
)
_Node = dict[str, Any]


def matches(head: bytes, name: str) -> bool:
    """A zip that is called .skops."""
    return head.startswith(b"PK\x03\x04") and name.lower().endswith(".skops")


def parts(name: str, find: Find) -> tuple[str, ...]:
    """A model is one file."""
    return ()


def describe(paths: Mapping[str, Path]) -> Facts:
    """The ports of the model, and what it is called. Raises FormatError, UnsupportedError."""
    try:
        with zipfile.ZipFile(paths["weights"]) as archive:
            return _described(archive)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise FormatError("the skops file is no zip that can be read", hint="fetch it again") from error


def _described(archive: zipfile.ZipFile) -> Facts:
    schema = _schema(archive)
    steps = list(_steps(schema))
    first, last = _fields(steps[0]), _fields(steps[-1])
    num_features = _whole(_fields(schema).get("n_features_in_")) or _whole(first.get("n_features_in_"))
    if not num_features:
        raise UnsupportedError(
            "the model does not say how many features it takes", hint="save a fitted scikit-learn model of numbers"
        )
    name = plain_text(str(steps[-1].get("__class__", "")), 80)
    outputs = (TensorSpec("value", "float64", (-1,)),)
    if "classes_" in last:
        dtype, num_classes = _classes(archive, last["classes_"])
        outputs = (TensorSpec("label", dtype, (-1,)),)
        if _has_probabilities(name, last):
            outputs += (TensorSpec("probabilities", "float64", (-1, num_classes)),)
    version = plain_text(str(schema.get("_skops_version", "")), 20)
    values: dict[str, Value] = {"architecture": name, "skops": version, "features": num_features}
    return Facts(
        task="predict",
        signature=Signature((TensorSpec("x", "float64", (-1, num_features)),), outputs),
        values={key: value for key, value in values.items() if value},
    )


def _schema(archive: zipfile.ZipFile) -> _Node:
    """The tree of nodes, within bounds. Raises FormatError."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    unpacked, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if len(entries) > MAX_ENTRIES or len(set(names)) < len(names):
        raise FormatError("the skops file has too many entries, or two of one name")
    if unpacked > min(MAX_UNPACKED_BYTES, MAX_RATIO * (packed + 1024)):
        raise FormatError("the skops file claims more bytes than a model has")
    if SCHEMA not in names or archive.getinfo(SCHEMA).file_size > MAX_SCHEMA_BYTES:
        raise FormatError(f"the skops file has no {SCHEMA}, or one that is too large")
    try:
        schema = msgspec.json.decode(archive.read(SCHEMA), type=_Node)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FormatError(f"{SCHEMA} of the skops file is no JSON object") from None
    _check_nodes(schema)
    return schema


def _check_nodes(schema: _Node) -> None:
    """Raises FormatError for a tree that is too deep or too large to be walked by the library."""
    stack: list[tuple[Any, int]] = [(schema, 0)]
    num_nodes = 0
    while stack:
        node, depth = stack.pop()
        num_nodes += 1
        if depth > 4 * MAX_DEPTH or num_nodes > MAX_NODES:
            raise FormatError(f"{SCHEMA} of the skops file is nested too deeply, or too large")
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        stack += [(child, depth + 1) for child in children if isinstance(child, dict | list)]


def _steps(node: _Node) -> Iterator[_Node]:
    """The model, or the steps that a pipeline takes, one after the other."""
    for _ in range(MAX_DEPTH):
        if node.get("__class__") != "Pipeline":
            break
        found = _content(_fields(node).get("steps"))
        pairs = [_content(each) for each in found] if isinstance(found, list) else []
        if not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise FormatError("the pipeline of the skops file has no steps")
        for _, step in pairs[:-1]:
            yield _node(step)
        node = _node(pairs[-1][1])
    yield node


def _node(found: Any) -> _Node:
    if not isinstance(found, dict):
        raise FormatError("a node of the skops file is none")
    return found


def _content(node: Any) -> Any:
    return node.get("content") if isinstance(node, dict) else None


def _fields(node: _Node) -> _Node:
    """The attributes of an object, by name."""
    found = _content(_content(node))
    return found if isinstance(found, dict) else {}


def _whole(node: Any) -> int:
    """A whole number as the schema has it: JSON in a text; 0 for anything else."""
    text = _content(node)
    return int(text) if isinstance(text, str) and text.isdecimal() and 0 < int(text[:20]) < MAX_FEATURES else 0


def _classes(archive: zipfile.ZipFile, node: Any) -> tuple[str, int]:
    """Data type and number of the labels. Raises FormatError, UnsupportedError."""
    file = _node(node).get("file")
    if not isinstance(file, str):
        found = _content(node)
        texts = _content(found) if isinstance(found, dict) else found
        if isinstance(texts, list) and texts:
            return "string", len(texts)
        raise UnsupportedError("the model has labels of several outputs, or of a kind that is not known here")
    try:
        with archive.open(file) as data:
            head = data.read(MAX_NPY_HEADER_BYTES)
        length = int.from_bytes(head[8:10], "little")
        array = ast.literal_eval(head[10 : 10 + length].decode("latin-1"))
        kind, shape = str(array["descr"]), tuple(array["shape"])
    except (KeyError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise FormatError("the labels of the skops file cannot be read") from None
    known = {"i": "int64", "u": "int64", "f": "float64", "b": "bool", "U": "string"}
    if len(shape) != 1 or not isinstance(shape[0], int) or kind[1:2] not in known:
        raise UnsupportedError("the labels of the model are of a kind that is not known here")
    return known[kind[1:2]], shape[0]


def _has_probabilities(name: str, fields: _Node) -> bool:
    if name in ("SVC", "NuSVC"):
        return _content(fields.get("probability")) == "true"
    if name == "SGDClassifier":
        return _content(fields.get("loss")) in ('"log_loss"', '"modified_huber"')
    return name not in _NO_PROBABILITIES
