"""What the tests of conversions share: a store, and a Llama of a few thousand weights with a vocabulary of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catena.core.settings import StoreSettings
from catena.store import Store
from catena.watch.keys import Signer

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "The capital of France is Paris, and that of Italy is Rome.",
    "Water boils at a temperature of 100 degrees; 2 and 2 is 4.",
    "def add(a, b):\n    return a + b",
] * 20
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


def write_llama(folder: Path, dtype: str = "float32", **changes: Any) -> Path:
    """A folder with a Llama of random weights, large enough that next tokens differ, and a trained vocabulary."""
    import tokenizers
    from safetensors.numpy import save_file

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    config = {**CONFIG, "vocab_size": tokenizer.get_vocab_size(), **changes}
    draw = np.random.default_rng(3)
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kv_width = width // heads * config["num_key_value_heads"]

    def weights(*shape: int) -> Any:
        return (draw.standard_normal(shape) * 0.3).astype(dtype)

    tensors = {
        "model.embed_tokens.weight": weights(config["vocab_size"], width),
        "model.norm.weight": weights(width) + 1,
    }
    for number in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{number}."
        tensors |= {
            f"{prefix}self_attn.q_proj.weight": weights(width, width),
            f"{prefix}self_attn.k_proj.weight": weights(kv_width, width),
            f"{prefix}self_attn.v_proj.weight": weights(kv_width, width),
            f"{prefix}self_attn.o_proj.weight": weights(width, width),
            f"{prefix}mlp.gate_proj.weight": weights(inner, width),
            f"{prefix}mlp.up_proj.weight": weights(inner, width),
            f"{prefix}mlp.down_proj.weight": weights(width, inner),
            f"{prefix}input_layernorm.weight": weights(width) + 1,
            f"{prefix}post_attention_layernorm.weight": weights(width) + 1,
        }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = weights(config["vocab_size"], width)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": "{{ messages[0].content }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    store = Store.open(home, StoreSettings(), Signer.open(home))
    yield store
    store.close()


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "llama")
