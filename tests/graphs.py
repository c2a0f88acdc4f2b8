"""Small ONNX models for tests, written as protobuf by hand: a trained-like network, and graphs with odd habits.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT, INT8, INT32, INT64, STRING, BOOL, HALF, DOUBLE = 1, 3, 6, 7, 8, 9, 10, 11
Shape = Sequence[int | str]


def varint(number: int) -> bytes:
    data = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*data, number))


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def port(name: str, dtype: int, shape: Shape) -> bytes:
    """An input or output; a dimension given by name varies, one called `?` has no name either."""
    lengths = b"".join(
        field(1, b"" if each == "?" else field(2, each) if isinstance(each, str) else field(1, each)) for each in shape
    )
    return field(1, name) + field(2, field(1, field(1, dtype) + field(2, lengths)))


def floats(name: str, shape: Sequence[int], values: Sequence[float]) -> bytes:
    """A float32 weight."""
    dimensions = b"".join(field(1, length) for length in shape)
    return dimensions + field(2, FLOAT) + field(8, name) + field(9, struct.pack(f"<{len(values)}f", *values))


def integers(name: str, values: Sequence[int]) -> bytes:
    """A list of int64 as a weight."""
    return field(1, len(values)) + field(2, INT64) + field(8, name) + field(9, struct.pack(f"<{len(values)}q", *values))


def node(kind: str, inputs: str, outputs: str, **attributes: int | Sequence[int]) -> bytes:
    """One operation; its attributes are whole numbers or lists of them."""
    data = b"".join(field(1, name) for name in inputs.split()) + b"".join(field(2, name) for name in outputs.split())
    data += field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            data += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            data += field(5, field(1, name) + b"".join(field(8, each) for each in value) + field(20, 7))
    return data


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    weights: Sequence[bytes] = (),
    **properties: str,
) -> bytes:
    """A whole file; `properties` go into its metadata (a double underscore stands for a colon)."""
    graph = b"".join(field(1, each) for each in nodes) + field(2, "graph")
    graph += b"".join(field(5, each) for each in weights)
    graph += b"".join(field(11, each) for each in inputs) + b"".join(field(12, each) for each in outputs)
    opset = field(1, "") + field(2, 17)
    pairs = b"".join(
        field(14, field(1, name.replace("__", ":")) + field(2, value)) for name, value in properties.items()
    )
    return field(1, 8) + field(7, graph) + field(8, opset) + pairs


def mlp(
    num_features: int = 4, num_hidden: int = 16, num_classes: int = 3, seed: int = 0, batch: str = "batch"
) -> bytes:
    """Two layers and a softmax over `x` (features, in K) with fixed random weights: outputs `p` and `label`."""
    rng = random.Random(0)

    def weights(rows: int, columns: int) -> list[float]:
        return [rng.gauss(0, (2 / rows) ** 0.5) for _ in range(rows * columns)]

    return model(
        [
            node("MatMul", "x w1", "a"),
            node("Add", "a b1", "b"),
            node("Relu", "b", "c"),
            node("MatMul", "c w2", "d"),
            node("Add", "d b2", "e"),
            node("Softmax", "e", "p", axis=-1),
            node("ArgMax", "p", "label", axis=-1, keepdims=0),
        ],
        [port("x", FLOAT, (batch, num_features))],
        [port("p", FLOAT, (batch, num_classes)), port("label", INT64, (batch,))],
        [
            floats("w1", (num_features, num_hidden), weights(num_features, num_hidden)),
            floats("b1", (num_hidden,), [rng.gauss(0, 0.1) for _ in range(num_hidden)]),
            floats("w2", (num_hidden, num_classes), weights(num_hidden, num_classes)),
            floats("b2", (num_classes,), [rng.gauss(0, 0.1) for _ in range(num_classes)]),
        ],
        unit__x="K",
    )


def identity(*dtypes: int, shape: Shape = ("n", "m")) -> bytes:
    """Gives back each input `x0`, `x1`, … as `y0`, `y1`, …"""
    return model(
        [node("Identity", f"x{index}", f"y{index}") for index in range(len(dtypes))],
        [port(f"x{index}", dtype, shape) for index, dtype in enumerate(dtypes)],
        [port(f"y{index}", dtype, shape) for index, dtype in enumerate(dtypes)],
    )


def centred() -> bytes:
    """Takes the mean of all rows from each: a row depends on the others of its run."""
    return model(
        [node("ReduceMean", "x", "m", axes=[0], keepdims=1), node("Sub", "x m", "y")],
        [port("x", FLOAT, ("n", 4))],
        [port("y", FLOAT, ("n", 4))],
    )


def lookup() -> bytes:
    """Rows of a table by index: an index out of range cannot be computed."""
    return model(
        [node("Gather", "table i", "y", axis=0)],
        [port("i", INT64, ("n",))],
        [port("y", FLOAT, ("n", 2))],
        [floats("table", (3, 2), [0, 1, 2, 3, 4, 5])],
    )


def write(folder: Path, name: str, data: bytes) -> Path:
    """The file NAME.onnx in a folder of its own."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.onnx"
    path.write_bytes(data)
    return path
