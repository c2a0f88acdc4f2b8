"""`catena convert`: from a path or a stored name, with what was measured, and nothing kept that went wrong."""

from __future__ import annotations

import json
from pathlib import Path

from tests.build.conftest import write_llama
from tests.conftest import catena

from catena.core.errors import EXIT_CODE


def test_a_folder_becomes_a_gguf_that_names_its_parent_and_is_measured(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", write_llama(tmp_path / "Tiny-Llama")
    done = catena(home, "convert", str(folder), "--to", "gguf", "--name", "child", "--quantise", "q8_0", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    weights, engine = told["measures"]
    assert weights["value"] < 0.02 and "Q8_0" in weights["what"]
    assert engine["is_good"] and "log probability" in engine["what"]
    (parent,) = told["row"]["manifest"]["provenance"]["parents"]
    listed = {row["name"]: row["digest"] for row in json.loads(catena(home, "models", "--json").stdout)}
    assert listed == {"tiny-llama": parent, "child": told["row"]["digest"]}
    assert "made from" in catena(home, "show", "child").stdout
    again = catena(home, "convert", "tiny-llama", "--to", "gguf", "--name", "child2", "--quantise", "F32")
    assert again.returncode == 0 and "6 of 6 likeliest tokens equal" in again.stdout


def test_what_cannot_be_converted_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", write_llama(tmp_path / "odd", attention_bias=True)
    done = catena(home, "convert", str(folder), "--to", "gguf", "--name", "child")
    assert done.returncode == EXIT_CODE["unsupported"] and "biases" in done.stderr
    assert "child" not in catena(home, "models").stdout
    done = catena(home, "convert", "odd", "--to", "openvino", "--name", "child")
    assert done.returncode == EXIT_CODE["unsupported"] and "safetensors can become: gguf" in done.stderr
