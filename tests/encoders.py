"""GGUF files of the encoders in the catalogue, made from their ONNX files: nobody ships such small ones as GGUF.

The names of tensors and keys are those of llama.cpp (gguf-py 0.19.0, constants.py). Weights that are stored in 8 bits
are turned back into floats, so that both engines compute with the same numbers; where the ONNX file has activations
rounded to 8 bits as it runs, they differ a little all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy
import onnx
from onnx import numpy_helper

_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def write(path: Path, weights: Path, tokenizer: Path, *, is_reranker: bool) -> None:
    """Write the BERT at `weights` (ONNX) with its WordPiece `tokenizer` (JSON) as GGUF to `path`."""
    arrays = _arrays(onnx.load(str(weights)))
    words: dict[str, int] = json.loads(tokenizer.read_text())["model"]["vocab"]
    texts = [text for text, _ in sorted(words.items(), key=lambda pair: pair[1])]
    num_layers = 1 + max(int(name.split(".")[2]) for name in arrays if name.startswith("encoder.layer."))
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(512)
    writer.add_embedding_length(384)
    writer.add_feed_forward_length(1536)
    writer.add_block_count(num_layers)
    writer.add_head_count(12)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if is_reranker else gguf.PoolingType.CLS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_spelt(text) for text in texts])
    writer.add_token_types([3 if text.startswith("[") and text.endswith("]") else 1 for text in texts])
    writer.add_token_type_count(2)
    writer.add_bos_token_id(words["[CLS]"])
    writer.add_eos_token_id(words["[SEP]"])
    writer.add_sep_token_id(words["[SEP]"])
    writer.add_unk_token_id(words["[UNK]"])
    writer.add_pad_token_id(words["[PAD]"])
    writer.add_mask_token_id(words["[MASK]"])
    writer.add_add_bos_token(True)
    # A pair is [CLS] query [SEP] document [SEP].
    writer.add_add_eos_token(is_reranker)
    writer.add_add_sep_token(not is_reranker)
    for name, array in arrays.items():
        called = _called(name)
        if called is not None and (is_reranker or not called.startswith("cls")):
            is_large = called == "token_embd.weight" or (called.startswith("blk.") and array.ndim == 2)
            kind = numpy.float16 if is_large else numpy.float32
            writer.add_tensor(called, numpy.ascontiguousarray(array, dtype=kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _spelt(text: str) -> str:
    """A word as llama.cpp wants it: what begins a word is marked, what goes on with one is not."""
    if text.startswith("[") and text.endswith("]"):
        return text
    return text[2:] if text.startswith("##") else "\u2581" + text


def _called(name: str) -> str | None:
    """llama.cpp's name of a tensor; None for one that it has no use for."""
    stem, _, kind = name.rpartition(".")
    fixed = {
        "embeddings.word_embeddings": "token_embd",
        "embeddings.position_embeddings": "position_embd",
        "embeddings.token_type_embeddings": "token_types",
        "embeddings.LayerNorm": "token_embd_norm",
        "pooler.dense": "cls",
        "classifier": "cls.output",
    }
    if stem in fixed:
        return f"{fixed[stem]}.{kind}"
    if stem.startswith("encoder.layer."):
        _, _, number, part = stem.split(".", 3)
        return f"blk.{number}.{_LAYER[part]}.{kind}"
    return None


def _arrays(model: Any) -> dict[str, Any]:
    """The weights by the names that PyTorch had for them, as it laid them out: outputs x inputs."""
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    arrays = {_short(name): array for name, array in stored.items() if name.endswith((".weight", ".bias"))}
    for node in model.graph.node:
        for name in node.input:
            if name in stored and name.endswith("_quantized"):
                whole = name.removesuffix("_quantized")
                zero, scale = stored[f"{whole}_zero_point"], stored[f"{whole}_scale"]
                array = (stored[name].astype(numpy.float32) - zero) * scale
                is_table = "embeddings" in whole
                called = whole if "." in whole else ".".join(node.name.strip("/").split("/")[:-1]) + ".weight"
                arrays[_short(called)] = array if is_table else array.T
    return arrays


def _short(name: str) -> str:
    return name.removeprefix("bert.")
