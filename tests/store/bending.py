"""Bends model files at random: whole models of each format and layout, one of whose files is no longer what it was."""

from __future__ import annotations

import json
import random
import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.store.writing import Gguf, Onnx

from catena.core.errors import FormatError, UnsupportedError
from catena.store import formats

Files = dict[str, bytes]
PIECES = [b"\xff", b"\x00", b"\x80", b"\x09", b"{", b"}", b'"', b"<", b"&", b"/../", bytes(8), b"\xff" * 8]
EXTREMES = [b"0", b"-1", b"1e9", b"4294967296", b"9223372036854775807", b"18446744073709551616", b"null", b'"x"', b"[]"]
_NUMBER = re.compile(rb"\d+")


class Tally(NamedTuple):
    """What became of bent models: how many had each outcome, and the slowest, in seconds of the CPU."""

    outcomes: Counter[str]
    slowest_s: float


def layouts() -> dict[str, tuple[str, Files]]:
    """One small model of each layout: the name of its file of weights, and all its files, by kind of model."""
    gguf, onnx = Gguf(), Onnx()
    parts: Files = {}
    for number in range(2):
        entries = [("split.no", 2, number), ("split.count", 2, 2), ("split.tensors.count", 5, 2)]
        tensors = ((f"w{number}", (64, 4), 8, 272),)
        parts[f"m-0000{number + 1}-of-00002.gguf"] = gguf.file((*(gguf.TINY if not number else ()), *entries), tensors)
    entries = {"location": "w.data", "offset": "0", "length": "128"}
    outside = b"".join(onnx.field(1, size) for size in (4, 8)) + onnx.field(2, 1) + onnx.field(8, "w")
    for key, value in entries.items():
        outside += onnx.field(13, onnx.field(1, key) + onnx.field(2, value))
    config = b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 128}'
    index = {"weight_map": {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}}
    return {
        "gguf": ("m.gguf", {"m.gguf": gguf.with_entries(("tokenizer.ggml.token_type", 9, (5, [1] * 8)))}),
        "gguf in parts": ("m-00001-of-00002.gguf", parts),
        "safetensors": ("model.safetensors", {"model.safetensors": tensors_of("a", "b", "c"), "config.json": config}),
        "safetensors in parts": (
            "m-00001-of-00002.safetensors",
            {
                "m-00001-of-00002.safetensors": tensors_of("a"),
                "m-00002-of-00002.safetensors": tensors_of("b"),
                "model.safetensors.index.json": json.dumps(index).encode(),
                "config.json": config,
            },
        ),
        "onnx": ("m.onnx", {"m.onnx": onnx.file(), "tokenizer.json": b"{}", "config.json": config}),
        "onnx with external data": (
            "m.onnx",
            {
                "m.onnx": onnx.file(onnx.graph(weights=[outside + onnx.field(14, 1)])),
                "w.data": bytes(128),
                "tokenizer.json": b"{}",
            },
        ),
        "openvino": ("m.xml", {"m.xml": IR, "m.bin": bytes(64)}),
    }


IR = b"""<?xml version="1.0"?><net name="tiny" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="?,4" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>-1</dim><dim>4</dim></port></output></layer>
<layer id="1" name="w" type="Const" version="opset1"><data element_type="f32" shape="4, 3" offset="16" size="48"/>
<output><port id="0" precision="FP32"><dim>4</dim><dim>3</dim></port></output></layer>
<layer id="3" name="r" type="Result" version="opset1" output_names="y">
<input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim></port></input></layer></layers><edges/></net>"""


def tensors_of(*names: str) -> bytes:
    """A safetensors file with a tensor of 4 x 8 floats under each name."""
    header = {name: {"dtype": "F32", "shape": [4, 8], "data_offsets": [128 * at, 128 * at + 128]}
              for at, name in enumerate(names)}  # fmt: skip
    data = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(data)) + data + bytes(128 * len(names))


def bend(rng: random.Random, data: bytes) -> bytes:
    """`data` with one to six changes: bits turned, pieces put in, copied, cut out, numbers made extreme."""
    bent = bytearray(data)
    for _ in range(rng.randrange(1, 7)):
        # Most of what can go wrong is at the beginning.
        at = rng.randrange(max(1, len(bent) if rng.random() < 0.5 else min(len(bent), 400)))
        match rng.randrange(7):
            case 0 if bent:
                bent[min(at, len(bent) - 1)] ^= 1 << rng.randrange(8)
            case 1 if bent:
                bent[min(at, len(bent) - 1)] = rng.randrange(256)
            case 2:
                bent[at : at + len(piece)] = (piece := rng.choice(PIECES))
            case 3:
                bent[at:at] = rng.choice(PIECES)
            case 4:
                del bent[at : at + rng.randrange(1, 32)]
            case 5:
                bent[at:at] = bent[at : at + rng.randrange(1, 64)]
            case _:
                numbers = list(_NUMBER.finditer(bytes(bent[:4096])))
                if numbers:
                    start, end = rng.choice(numbers).span()
                    bent[start:end] = rng.choice(EXTREMES)
    return bytes(bent) if rng.random() < 0.9 else bytes(bent[: rng.randrange(len(bent) + 1)])


def bent_models(rng: random.Random, count: int) -> Iterator[tuple[str, str, Files]]:
    """So many models: kind, name of the weights, and files, one of which was bent."""
    kinds = list(layouts().items())
    for number in range(count):
        kind, (weights, files) = kinds[number % len(kinds)]
        victim = rng.choice([name for name, data in files.items() if data.strip(b"\0")])
        yield kind, weights, {**files, victim: bend(rng, files[victim])}


def check(folder: Path, weights: str, files: Files) -> str:
    """Look at a model as the store does; gives the outcome. Anything but an error for malformed files goes up."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    format = formats.recognise(files[weights][:16], weights)
    assert format is not None
    module = formats.find(format)

    def find(name: str) -> Path | None:
        return folder / name if name in files else None

    try:
        named = [("weights", weights), *(("weights", name) for name in module.parts(weights, find))]
        named += [(role, name) for name, role in module.COMPANIONS.items() if name in files]
        paths = formats.by_role((role, name, formats.path_of(name, find)) for role, name in named)
        facts = module.describe(paths)
    except (FormatError, UnsupportedError) as error:
        return error.code
    assert all(isinstance(value, str) or abs(value) < 1 << 63 for value in facts.values.values())
    return "read"


def run(folder: Path, count: int, seed: int, each: Callable[[], None] = lambda: None) -> Tally:
    """Bend and check so many models; `each` is called after every one."""
    outcomes, slowest_s = Counter[str](), 0.0
    for kind, weights, files in bent_models(random.Random(seed), count):
        started = time.process_time()
        outcome = check(folder, weights, files)
        slowest_s = max(slowest_s, time.process_time() - started)
        outcomes[f"{kind}: {outcome}"] += 1
        each()
    return Tally(outcomes, slowest_s)
