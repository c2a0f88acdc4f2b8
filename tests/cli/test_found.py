"""`catena models --found | export | serve-model`: one copy for several programs, and what can serve a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests import graphs
from tests.conftest import catena
from tests.weights import write_gguf

from catena.core.errors import EXIT_CODE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_model_goes_out_to_ollama_and_is_found_there(home: Path, tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "tiny.gguf")
    elsewhere = {"OLLAMA_MODELS": str(tmp_path / "ollama"), "HOME": str(tmp_path)}
    assert catena(home, "pull", str(weights), "--name", "tiny").returncode == 0
    done = catena(home, "export", "tiny", "--for", "ollama", **elsewhere)
    assert done.returncode == 0, done.stderr
    assert "tiny:latest" in done.stdout and "no new space" in done.stdout
    (row,) = json.loads(catena(home, "models", "--found", "--json", **elsewhere).stdout)
    assert (row["source"], row["stored_as"], row["refusal"]) == ("found:ollama/tiny:latest", "tiny", "")
    assert "stored as tiny" in catena(home, "models", "--found", **elsewhere).stdout
    taken = catena(home, "pull", row["source"], "--name", "again", "--json", **elsewhere)
    assert json.loads(taken.stdout)["how"] == "present"


def test_a_second_copy_is_not_made_without_a_word(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio" / "models" / "me" / "tiny"
    folder.mkdir(parents=True)
    write_gguf(folder / "tiny.gguf").chmod(0o666)
    done = catena(home, "pull", "found:lmstudio/me/tiny", "--json", HOME=str(tmp_path))
    how = json.loads(done.stdout)["how"]
    catena(home, "rm", "tiny")
    catena(home, "gc")
    again = catena(home, "pull", "found:lmstudio/me/tiny", HOME=str(tmp_path))
    assert ("a second copy" in again.stderr) == (how == "copied")
    assert how in ("copied", "cloned")


def test_nothing_found_is_said_on_standard_error(home: Path, tmp_path: Path) -> None:
    done = catena(home, "models", "--found", HOME=str(tmp_path), OLLAMA_MODELS=str(tmp_path / "no"))
    assert (done.returncode, done.stdout) == (0, "") and "no other program" in done.stderr


def test_a_file_is_registered_with_who_can_serve_it_and_how_to_call_it(home: Path, tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "tiny.gguf")
    done = catena(home, "serve-model", str(weights), "--name", "mine")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("llama_cpp" in line and "can run it" in line for line in lines)
    assert any("onnx reads onnx, not gguf" in line for line in lines)
    assert lines[-1].startswith("curl http://127.0.0.1:7411/v1/chat/completions") and '"model": "mine"' in lines[-1]


def test_a_file_that_no_engine_can_run_is_kept_and_each_reason_is_given(home: Path, tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (tmp_path / "config.json").write_text('{"model_type": "odd", "architectures": ["OddForImageClassification"]}')
    done = catena(home, "serve-model", str(tmp_path / "model.safetensors"), "--name", "odd", "--json")
    assert done.returncode == EXIT_CODE["unsupported"]
    told = json.loads(done.stdout)
    assert told["call"] is None and all(told["engines"].values())
    assert "catena rm" in done.stderr
    assert "odd" in catena(home, "models").stdout


def test_a_file_is_served_at_once_and_the_line_that_is_printed_reaches_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(graphs.mlp())
    words = ["serve-model", str(tmp_path / "net.onnx"), "--name", "net", "--up", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "catena", *words],
        env={**os.environ, "CATENA_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while lines[-1] and not lines[-1].startswith("curl "):
            lines.append(process.stdout.readline())
        with urllib.request.urlopen(lines[-1].split()[1], timeout=30) as answer:
            assert json.loads(answer.read())["name"] == "net"
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert any(line.startswith("ready http://127.0.0.1:") for line in lines)
