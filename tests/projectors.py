"""Projectors of random numbers: what such a model says of a picture or a sound is noise, but it has read it.

The names of tensors and keys are those of llama.cpp (gguf-py 0.19.0, constants.py): a LLaVA encoder of one layer for
pictures of 28 x 28 pixels, which become four vectors, and a Qwen2-Audio encoder of one layer for sounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy

WIDTH, INNER, PATCH, SIDE = 32, 64, 14, 28
SOUND_POSITIONS, MEL_BINS = 1500, 80


def write(path: Path, embedding_width: int, *, audio: bool = False, seed: int = 1) -> Path:
    """Write a projector for a language model of this embedding width; with `audio` one for sounds."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    random = numpy.random.default_rng(seed)

    def add(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * scale).astype(numpy.float32))

    kind = "audio" if audio else "vision"
    writer.add_bool(f"clip.has_{kind}_encoder", True)
    for key, value in {
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "block_count": 1,
        "attention.head_count": 2,
        "projection_dim": embedding_width,
    }.items():
        writer.add_uint32(f"clip.{kind}.{key}", value)
    writer.add_float32(f"clip.{kind}.attention.layer_norm_epsilon", 1e-5)
    writer.add_bool("clip.use_gelu", True)
    (_sound if audio else _picture)(writer, add, embedding_width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _picture(writer: Any, add: Any, embedding_width: int) -> None:
    writer.add_string("clip.projector_type", "mlp")
    writer.add_uint32("clip.vision.image_size", SIDE)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.position_embd.weight", (SIDE // PATCH) ** 2 + 1, WIDTH)
    add("v.class_embd", WIDTH)
    for part in ("weight", "bias"):
        add(f"v.pre_ln.{part}", WIDTH, scale=1)
    _layer(add, "v")
    for number, rows, columns in ((0, embedding_width, WIDTH), (2, embedding_width, embedding_width)):
        add(f"mm.{number}.weight", rows, columns, scale=0.1)
        add(f"mm.{number}.bias", rows)


def _sound(writer: Any, add: Any, embedding_width: int) -> None:
    writer.add_string("clip.projector_type", "qwen2a")
    writer.add_uint32("clip.audio.num_mel_bins", MEL_BINS)
    add("a.conv1d.1.weight", WIDTH, MEL_BINS, 3)
    add("a.conv1d.1.bias", WIDTH, 1)
    add("a.conv1d.2.weight", WIDTH, WIDTH, 3)
    add("a.conv1d.2.bias", WIDTH, 1)
    add("a.position_embd.weight", SOUND_POSITIONS, WIDTH)
    _layer(add, "a")
    for part in ("weight", "bias"):
        add(f"a.post_ln.{part}", WIDTH, scale=1)
    add("mm.a.fc.weight", embedding_width, WIDTH)
    add("mm.a.fc.bias", embedding_width)


def _layer(add: Any, tower: str) -> None:
    for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
        add(f"{tower}.blk.0.{name}.weight", WIDTH, WIDTH)
        if (tower, name) != ("a", "attn_k"):  # Whisper's keys have none
            add(f"{tower}.blk.0.{name}.bias", WIDTH)
    for name in ("ln1", "ln2"):
        for part in ("weight", "bias"):
            add(f"{tower}.blk.0.{name}.{part}", WIDTH, scale=1)
    for name, rows, columns in (("ffn_up", INNER, WIDTH), ("ffn_down", WIDTH, INNER)):
        add(f"{tower}.blk.0.{name}.weight", rows, columns)
        add(f"{tower}.blk.0.{name}.bias", rows)
