"""A Llama network in numpy, from safetensors: the parent's weights as llama.cpp orders them, and its answers.

Formulas: transformers 5, modeling_llama.py; Touvron et al., arXiv:2302.13971; rotary embedding, Su et al.,
arXiv:2104.09864, with the halves of a head rotated against one another. 32-bit floats; one sequence at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from catena.build.convert import Expected
from catena.core.errors import FormatError, MissingExtraError, UnsupportedError
from catena.store.formats import safetensors
from catena.store.formats.safetensors import Tensor

try:
    import numpy as np
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "numpy", "convert") from error

# A larger parent is not asked: in numpy it would take minutes.
MAX_PARAMETERS = 3_000_000_000
# Token sequences to compare by; no meaning is needed, only the same numbers on both sides.
NUM_PROBES, PROBE_TOKENS, NUM_TOP = 6, 24, 16
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class Shape(Struct, frozen=True):
    """Sizes of the network, in elements."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    width: int
    inner_width: int
    num_vocabulary: int
    norm_epsilon: float
    rope_base: float
    is_tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From config.json. Raises FormatError; UnsupportedError for what makes another network of it."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default" or config.get("attention_bias") or config.get("mlp_bias"):
            raise UnsupportedError(f"the model has biases, or a rotary embedding of the kind {kind}")
        if config.get("hidden_act", "silu") != "silu":
            raise UnsupportedError(f"the model's activation is {config.get('hidden_act')}")
        try:
            heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
            return cls(
                num_layers=int(config["num_hidden_layers"]),
                num_heads=heads,
                num_kv_heads=int(config.get("num_key_value_heads") or heads),
                head_width=int(config.get("head_dim") or width // heads),
                width=width,
                inner_width=int(config["intermediate_size"]),
                num_vocabulary=int(config["vocab_size"]),
                norm_epsilon=float(config["rms_norm_eps"]),
                rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
                is_tied=bool(config.get("tie_word_embeddings", False)),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            raise FormatError("config.json lacks a size of the network") from None


class Llama:
    """The parent, read tensor by tensor from its files."""

    def __init__(self, shape: Shape, paths: Sequence[Path]) -> None:
        self._shape = shape
        self._tensors: dict[str, tuple[Path, Tensor]] = {
            name: (path, tensor) for path in paths for name, tensor in safetensors.read(path).tensors.items()
        }
        if shape.is_tied:
            self._tensors.pop("lm_head.weight", None)

    @property
    def names(self) -> list[str]:
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """In elements, the last dimension varying fastest."""
        return self._tensors[name][1].shape

    def weights(self, name: str) -> Any:
        """One tensor as float32. Raises FormatError if there is none of this name."""
        if name not in self._tensors:
            raise FormatError(f"the model lacks {name!r}")
        path, tensor = self._tensors[name]
        if tensor.dtype == "BF16":
            raw = np.memmap(path, "<u2", "r", tensor.offset, tensor.shape)
            return (raw.astype(np.uint32) << 16).view(np.float32)
        if tensor.dtype not in _DTYPES:
            raise UnsupportedError(
                f"the model's weights are {tensor.dtype}", hint="floats of 16, 32 or 64 bits are read"
            )
        return np.memmap(path, _DTYPES[tensor.dtype], "r", tensor.offset, tensor.shape).astype(np.float32)

    def ordered(self, name: str, num_heads: int | None) -> Any:
        """One tensor as llama.cpp wants it: in queries and keys, the rows of each head's two halves take turns."""
        weights = self.weights(name)
        if num_heads is None:
            return weights
        rows = weights.reshape(num_heads, 2, weights.shape[0] // num_heads // 2, *weights.shape[1:])
        return rows.swapaxes(1, 2).reshape(weights.shape)

    def expected(self, tokens: Sequence[bytes]) -> tuple[Expected, ...]:
        """What the network says after each probe; nothing for one that is too large to ask."""
        if sum(int(np.prod(tensor.shape)) for _, tensor in self._tensors.values()) > MAX_PARAMETERS:
            return ()
        draw = np.random.default_rng(7)
        probes = draw.integers(0, len(tokens), (NUM_PROBES, PROBE_TOKENS))
        logprobs = self.logprobs(probes)
        found: list[Expected] = []
        for probe, row in zip(probes.tolist(), logprobs, strict=True):
            likeliest: list[int] = np.argsort(-row)[:NUM_TOP].tolist()
            found.append(Expected(tuple(probe), {tokens[number]: float(row[number]) for number in likeliest}))
        return tuple(found)

    def logprobs(self, tokens_BT: Any) -> Any:
        """Natural-log probabilities of the token after each sequence: batch x vocabulary. Layers are read in turn."""
        shape = self._shape
        hidden_BTC = self.weights("model.embed_tokens.weight")[tokens_BT]
        rotation = _rotation(tokens_BT.shape[1], shape.head_width, shape.rope_base)
        for number in range(shape.num_layers):
            hidden_BTC = self._layer(f"model.layers.{number}.", hidden_BTC, rotation)
        last_BC = self._norm("model.norm.weight", hidden_BTC[:, -1])
        table = self.weights("model.embed_tokens.weight" if shape.is_tied else "lm_head.weight")
        logits_BV = last_BC @ table.T
        highest = logits_BV.max(-1, keepdims=True)
        return logits_BV - highest - np.log(np.exp(logits_BV - highest).sum(-1, keepdims=True))

    def _layer(self, prefix: str, hidden_BTC: Any, rotation: tuple[Any, Any]) -> Any:
        shape = self._shape
        normal = self._norm(f"{prefix}input_layernorm.weight", hidden_BTC)

        def heads(name: str, count: int) -> Any:
            flat = normal @ self.weights(f"{prefix}self_attn.{name}.weight").T
            return flat.reshape(*flat.shape[:2], count, shape.head_width).swapaxes(1, 2)

        query = _rotated(heads("q_proj", shape.num_heads), rotation)
        groups = shape.num_heads // shape.num_kv_heads
        key = _rotated(heads("k_proj", shape.num_kv_heads), rotation).repeat(groups, axis=1)
        value = heads("v_proj", shape.num_kv_heads).repeat(groups, axis=1)
        scores_BHTT = query @ key.swapaxes(-1, -2) / np.sqrt(shape.head_width)
        scores_BHTT += np.triu(np.full(scores_BHTT.shape[-2:], -np.inf, np.float32), 1)
        scores_BHTT = np.exp(scores_BHTT - scores_BHTT.max(-1, keepdims=True))
        mixed = (scores_BHTT / scores_BHTT.sum(-1, keepdims=True)) @ value
        mixed = mixed.swapaxes(1, 2).reshape(*hidden_BTC.shape[:2], -1)
        hidden_BTC = hidden_BTC + mixed @ self.weights(f"{prefix}self_attn.o_proj.weight").T
        normal = self._norm(f"{prefix}post_attention_layernorm.weight", hidden_BTC)
        gate = normal @ self.weights(f"{prefix}mlp.gate_proj.weight").T
        inner = gate / (1 + np.exp(-gate)) * (normal @ self.weights(f"{prefix}mlp.up_proj.weight").T)
        return hidden_BTC + inner @ self.weights(f"{prefix}mlp.down_proj.weight").T

    def _norm(self, name: str, hidden: Any) -> Any:
        scale = np.sqrt(np.square(hidden).mean(-1, keepdims=True) + self._shape.norm_epsilon)
        return hidden / scale * self.weights(name)


def _rotation(num_tokens: int, head_width: int, base: float) -> tuple[Any, Any]:
    """Cosine and sine for each position and each of the head's elements."""
    frequencies = base ** (-np.arange(0, head_width, 2) / head_width)
    angles = np.arange(num_tokens)[:, None] * frequencies
    both = np.concatenate([angles, angles], -1)
    return np.cos(both).astype(np.float32), np.sin(both).astype(np.float32)


def _rotated(heads_BHTD: Any, rotation: tuple[Any, Any]) -> Any:
    cosine, sine = rotation
    first, second = np.split(heads_BHTD, 2, axis=-1)
    return heads_BHTD * cosine + np.concatenate([-second, first], -1) * sine
