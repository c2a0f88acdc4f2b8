"""Small classifiers of texts and of tokens, whose answers are known by hand: each word raises one logit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tests import graphs
from tokenizers import models, pre_tokenizers, processors

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "ada", "lovelace", "in", "london", "paris")
LABELS = ("O", "B-PER", "I-PER", "B-LOC")
# Which logit each word raises: of texts (bad, good) and of tokens (LABELS).
TEXT_ROWS = {"good": (0.0, 2.0), "bad": (3.0, 0.0)}
TOKEN_ROWS = {"ada": 1, "lovelace": 2, "london": 3, "paris": 3}


def tokenizer() -> str:
    """Words, a mark before and one after."""
    made = tokenizers.Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    made.enable_padding(length=512)  # as some files ask, and nobody should
    return made.to_str()


def classifier(rows: list[tuple[float, ...]], *, is_of_tokens: bool) -> bytes:
    """Looks up the logits of each word; those of a text are the highest of its words'."""
    width = len(rows[0])
    nodes = [graphs.node("Gather", "table input_ids", "looked", axis=0)]
    shape: graphs.Shape = ("batch", "tokens", width) if is_of_tokens else ("batch", width)
    last = "Identity" if is_of_tokens else "ReduceMax"
    nodes.append(graphs.node(last, "looked", "logits", **({} if is_of_tokens else {"axes": [1], "keepdims": 0})))
    return graphs.model(
        nodes,
        [graphs.port("input_ids", graphs.INT64, ("batch", "tokens"))],
        [graphs.port("logits", graphs.FLOAT, shape)],
        [graphs.floats("table", (len(rows), width), [value for row in rows for value in row])],
    )


def moods() -> bytes:
    """Of texts: bad or good."""
    return classifier([TEXT_ROWS.get(word, (0.0, 0.0)) for word in WORDS], is_of_tokens=False)


def names() -> bytes:
    """Of tokens: persons and places."""
    rows = [tuple(4.0 * (number == TOKEN_ROWS.get(word, 0)) for number in range(4)) for word in WORDS]
    return classifier(rows, is_of_tokens=True)


MOODS: dict[str, Any] = {"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "max_position_embeddings": 12}
NAMES: dict[str, Any] = {"id2label": dict(enumerate(LABELS))}


def write(folder: Path, graph: bytes, config: dict[str, Any] | str | None) -> Path:
    """A model in a folder of its own, as those who publish one lay it out."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    (folder / "tokenizer.json").write_text(tokenizer())
    if config is not None:
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder
