"""Small models that the suites make themselves, for engines that no model of the catalogue is for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import graphs

from catena.core.manifest import FileEntry, Manifest, Provenance, Signature, TensorSpec

MLP = Signature(
    (TensorSpec("x", "float32", (-1, 4)),),
    (TensorSpec("p", "float32", (-1, 3)), TensorSpec("label", "int64", (-1,))),
)


def openvino_classifier(folder: Path) -> Path:
    """The network of `graphs.mlp` as OpenVINO IR."""
    import openvino

    path = folder / "classifier.xml"
    source = graphs.write(folder.with_name(f"{folder.name}.onnx"), "mlp", graphs.mlp())
    openvino.save_model(openvino.convert_model(str(source)), path, compress_to_fp16=False)
    return path


IRISES = Signature(
    (TensorSpec("x", "float64", (-1, 4)),),
    (TensorSpec("label", "int64", (-1,)), TensorSpec("probabilities", "float64", (-1, 3))),
)


def irises(folder: Path) -> Path:
    """A pipeline of scikit-learn, fitted to Fisher's irises."""
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    path = folder / "irises.skops"
    skops.io.dump(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(*load_iris(return_X_y=True)), path
    )
    return path


def tokenizer(folder: Path, *, is_encoder: bool) -> int:
    """A byte-level tokenizer of a few hundred tokens, as files of transformers; how many tokens it has."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    specials = [AddedToken(name, special=True) for name in ("<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>")]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["one, two, three, four, five, six, seven. Say hello. word words"] * 4, trainer)
    if is_encoder:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    if not is_encoder:
        config["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return made.get_vocab_size()


def llama(folder: Path) -> Path:
    """A language model of random weights that writes printable letters only, as its other rows are 0."""
    import tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = tokenizer(folder, is_encoder=False)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=2,
    )
    network = LlamaForCausalLM(config)
    read = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = [read.id_to_token(index) or "" for index in range(size)]
    with torch.no_grad():
        network.model.embed_tokens.weight *= 50
        for index, token in enumerate(tokens):
            is_shown = index >= 5 and all("!" <= letter <= "~" or letter == "\u0120" for letter in token)
            network.lm_head.weight[index] *= 50 if is_shown else 0
    network.save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    """An encoder of random weights."""
    import torch
    from transformers import BertConfig, BertModel

    size = tokenizer(folder, is_encoder=True)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=1.0,
        pad_token_id=2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_PORTS = Signature()
MAKERS: dict[str, Callable[[Path], Path]] = {
    "classifier-ir": openvino_classifier,
    "irises": irises,
    "tiny-bert": bert,
    "tiny-llama": llama,
}


def card(name: str, task: Any, form: str, *roles: str, signature: Signature = NO_PORTS) -> Manifest:
    """As much of a made model's manifest as an engine looks at to accept it."""
    files = tuple(FileEntry(role, role, 1, "sha256:" + "0" * 64) for role in roles)
    return Manifest(name, task, form, files, "", Provenance("test"), signature)


CARDS = (
    card("classifier-ir", "predict", "openvino", "weights", signature=MLP),
    card("irises", "predict", "skops", "weights", signature=IRISES),
    card("tiny-bert", "embed", "safetensors", "weights", "config", "tokenizer"),
    card("tiny-llama", "generate", "safetensors", "weights", "config", "tokenizer"),
)


def made(folder: Path, name: str) -> Path:
    """What the store is to pull: the model called `name`, made once."""
    home = folder / name
    draft = folder / f"{name}.draft"
    if not home.exists():
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        MAKERS[name](draft)
        draft.rename(home)
    files = list(home.iterdir())
    return files[0] if len(files) == 1 else home
