"""safetensors of the Llama family to GGUF: names, the order of rows in queries and keys, vocabulary, chat template.

Source: convert_hf_to_gguf.py of llama.cpp (LlamaModel) for keys, the order of rows and the names of pre-tokenisers;
transformers, modeling_llama.py, for the network. Only what is known to be right is converted: plain rotary embedding,
no biases, and a byte-level vocabulary whose splitting is one of those named below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catena.build.convert import Made
from catena.build.convert.llama import Llama, Shape
from catena.build.convert.writing import FORMS, Source, library, version, write
from catena.core.errors import FormatError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.store import formats
from catena.store.rows import Report

QUANTISATIONS = ("F16", *(form for form in FORMS if form != "F16"))
FAMILY = frozenset({"llama", "mistral"})
# Regular expression of a pre-tokeniser's Split → its name in llama.cpp.
_LLAMA_3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"


def convert(model: StoredModel, folder: Path, quantise: str, report: Report) -> Made:
    """Write the GGUF; what the parent says of a few token sequences goes along, to compare the child with."""
    config = json.loads(model.path("config").read_bytes())
    if config.get("model_type") not in FAMILY:
        raise UnsupportedError(
            f"only models of the Llama family are converted; this one is {config.get('model_type')}",
            hint="take a GGUF of it, or convert it with llama.cpp's convert_hf_to_gguf.py",
        )
    shape = Shape.of(config)
    parent = Llama(shape, [model.paths[entry.name] for entry in model.manifest.files if entry.role == "weights"])
    writer = library.GGUFWriter(None, "llama")
    tokens = _vocabulary(writer, model, shape)
    _metadata(writer, model, config, shape)
    if "rope_freqs.weight" in parent.names:
        raise UnsupportedError("the model stretches its rotary embedding")
    measure = write(folder / f"{folder.name}.gguf", writer, _sources(parent, shape), quantise, report)
    return Made(version(), (measure,), parent.expected([_bytes(token) for token in tokens]))


def _metadata(writer: Any, model: StoredModel, config: Mapping[str, Any], shape: Shape) -> None:
    writer.add_name(model.name)
    if model.manifest.licence != "unknown":
        writer.add_license(model.manifest.licence)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner_width)
    writer.add_block_count(shape.num_layers)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.num_vocabulary)
    writer.add_quantization_version(library.GGML_QUANT_VERSION)


def _sources(parent: Llama, shape: Shape) -> list[Source]:
    """Every tensor under its name in GGUF. Raises UnsupportedError for one that the family has not."""
    names = library.get_tensor_name_map(library.MODEL_ARCH.LLAMA, shape.num_layers)
    found: list[Source] = []
    for name in parent.names:
        if name.endswith("rotary_emb.inv_freq"):
            continue
        mapped = names.get_name(name, try_suffixes=(".weight",))
        if mapped is None or not name.endswith(".weight"):
            raise UnsupportedError(f"the model has {name!r}, which models of the Llama family have not")
        heads = {"q_proj": shape.num_heads, "k_proj": shape.num_kv_heads}.get(name.split(".")[-2])
        found.append(Source(mapped, parent.shape(name), lambda name=name, heads=heads: parent.ordered(name, heads)))
    return found


def _vocabulary(writer: Any, model: StoredModel, shape: Shape) -> list[str]:
    """Tokens, merges, kinds and special tokens from tokenizer.json; gives the tokens. Raises UnsupportedError."""
    path = next((model.paths[entry.name] for entry in model.manifest.files if entry.role == "tokenizer"), None)
    if path is None:
        raise UnsupportedError("the model has no tokenizer.json", hint="a SentencePiece vocabulary is not converted")
    tokenizer = json.loads(path.read_bytes())
    bpe = tokenizer.get("model", {})
    if bpe.get("type") != "BPE" or bpe.get("byte_fallback"):
        raise UnsupportedError("the model's vocabulary is not a byte-level one")
    kind = library.TokenType
    tokens = [f"[PAD{number}]" for number in range(shape.num_vocabulary)]
    kinds = [kind.UNUSED] * shape.num_vocabulary
    added = {token["content"]: token for token in tokenizer.get("added_tokens", [])}
    for text, number in {**bpe["vocab"], **{text: token["id"] for text, token in added.items()}}.items():
        if not 0 <= number < shape.num_vocabulary:
            raise FormatError(f"tokenizer.json has a token number {number}, the model {shape.num_vocabulary} rows")
        tokens[number] = text
        is_special = added.get(text, {}).get("special", False)
        kinds[number] = kind.CONTROL if is_special else kind.USER_DEFINED if text in added else kind.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting(tokenizer.get("pre_tokenizer") or {}))
    writer.add_token_list(tokens)
    writer.add_token_types([int(each) for each in kinds])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"]])
    _special_tokens(writer, model, tokenizer, {text: number for number, text in enumerate(tokens)})
    return tokens


def _bytes(token: str) -> bytes:
    """The bytes that a token stands for: its letters stand for one each (bytes_to_unicode of GPT-2's encoder.py)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {**{chr(byte): byte for byte in shown}, **{chr(256 + place): byte for place, byte in enumerate(hidden)}}
    return bytes(table[letter] for letter in token) if all(letter in table for letter in token) else token.encode()


def _special_tokens(writer: Any, model: StoredModel, tokenizer: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
    roles = {entry.role for entry in model.manifest.files}
    config: dict[str, Any] = {}
    if "tokenizer_config" in roles:
        config = json.loads(model.path("tokenizer_config").read_bytes())
    for name, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("unk_token", writer.add_unk_token_id),
        ("pad_token", writer.add_pad_token_id),
    ):
        token = config.get(name)
        text = str(token.get("content") if isinstance(token, dict) else token)
        if text in numbers:
            add(numbers[text])
    writer.add_add_bos_token(bool(config.get("add_bos_token", _adds_bos(tokenizer, config))))
    paths = formats.by_role((entry.role, entry.name, model.paths[entry.name]) for entry in model.manifest.files)
    template = formats.find("safetensors").describe(paths).chat_template
    if template:
        writer.add_chat_template(template)


def _adds_bos(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the tokenizer's template puts the first token before every text."""
    processor = tokenizer.get("post_processor") or {}
    return processor.get("type") == "TemplateProcessing" and str(config.get("bos_token")) in str(
        processor.get("single")
    )


def _splitting(pre: Mapping[str, Any]) -> str:
    """The name that llama.cpp has for how text is split before merging. Raises UnsupportedError."""
    steps = pre.get("pretokenizers", [pre])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and str(steps[0].get("pattern", {}).get("Regex", "")).startswith(_LLAMA_3):
        return "llama-bpe"
    raise UnsupportedError(
        "the model's tokenizer splits text in a way that is not known here",
        hint="convert it with llama.cpp's convert_hf_to_gguf.py",
    )
