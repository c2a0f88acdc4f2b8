"""A stored model laid out for another program: one copy for both, found again where that program looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import ConflictError, InputError, IntegrityError, ResourceError, UnsupportedError
from catena.reach.presets import Preset
from catena.store import Change, Store, elsewhere
from catena.store.elsewhere.templates import FORMS, Form, form_of

ROOTS = {
    "ollama": ".ollama/models",
    "lmstudio": ".lmstudio/models",
    "llama.cpp": ".cache/llama.cpp",
    "huggingface": ".cache/huggingface/hub",
    "modelscope": ".cache/modelscope",
}


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a person who set nothing."""
    for variable in ("OLLAMA_MODELS", "LLAMA_CACHE", "HF_HUB_CACHE", "HF_HOME", "MODELSCOPE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("catena.store.elsewhere.ollama.SERVICE", tmp_path / "no-service")
    home = tmp_path / "person"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize("program", elsewhere.PROGRAMS)
def test_a_model_is_laid_out_without_a_copy_and_found_again(
    store: Store, person: Path, large: Path, program: str
) -> None:
    store.pull(str(large), name="big")
    laid = store.lay_out("big", program)
    assert (laid.how, laid.num_files, laid.folder) == ("linked", 1, person / ROOTS[program])
    (found,) = store.found()
    assert (found.program, found.refusal, found.stored_as) == (program, "", "big")
    assert found.path.samefile(store.resolve("big").path("weights"))
    assert store.lay_out("big", program).how == "present"


@pytest.mark.parametrize("program", elsewhere.PROGRAMS)
def test_what_the_program_deletes_stays_here(store: Store, person: Path, large: Path, program: str) -> None:
    store.pull(str(large), name="big")
    shutil.rmtree(store.lay_out("big", program).folder)
    store.check_files(store.resolve("big").digest, is_full=True)


def test_what_a_model_sets_for_requests_goes_to_ollama_and_comes_back(store: Store, person: Path, tiny: Path) -> None:
    store.pull(str(tiny), name="tiny")
    facts = {"preset.temperature": 0.5, "preset.max_tokens": 99, "preset.stop": '["x"]', "preset.system": "Be short."}
    store.derive("tiny", "short", Change(facts))
    laid = store.lay_out("short", "ollama")
    assert laid.name == "short:latest"
    assert any("template" in left for left in laid.leaves)
    again = store.pull("found:ollama/short", name="again").row.manifest
    assert Preset.of(again) == Preset.of(store.resolve("short").manifest)
    assert again.licence == "apache-2.0"
    listing = json.loads((laid.folder / "manifests/registry.ollama.ai/library/short/latest").read_text())
    config = json.loads((laid.folder / "blobs" / listing["config"]["digest"].replace(":", "-")).read_text())
    assert (config["model_format"], config["model_family"], config["file_type"]) == ("gguf", "llama", "Q8_0")


@pytest.mark.parametrize("form", FORMS)
def test_ollama_gets_a_chat_template_of_a_known_form(store: Store, tmp_path: Path, gguf: Any, form: Form) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf.with_entries(("tokenizer.chat_template", 8, f"{{% if x %}}{form.mark}")))
    store.pull(str(tmp_path / "m.gguf"), name="m")
    laid = store.lay_out("m", "ollama", tmp_path / "ollama")
    listing = json.loads((laid.folder / "manifests/registry.ollama.ai/library/m/latest").read_text())
    digests = {layer["mediaType"].rpartition(".")[2]: layer["digest"] for layer in listing["layers"]}
    assert (laid.folder / "blobs" / digests["template"].replace(":", "-")).read_text() == form.go
    assert form.name in laid.leaves[0]
    assert form_of(form.go) == form_of(form.jinja) == form


def test_the_layout_of_hugging_face_has_links_to_blobs(store: Store, encoder: Path, tmp_path: Path) -> None:
    digest = store.pull(str(encoder), name="enc").row.digest
    laid = store.lay_out("enc", "huggingface", tmp_path / "cache")
    repository = laid.folder / "models--catena--enc"
    revision = (repository / "refs" / "main").read_text()
    assert revision == digest[7:47]
    links = sorted((repository / "snapshots" / revision).iterdir())
    assert [path.name for path in links] == ["config.json", "model.onnx", "tokenizer.json"]
    assert all(path.is_symlink() and path.resolve().parent == repository / "blobs" for path in links)


def test_a_file_of_another_content_is_not_replaced(store: Store, tiny: Path, tmp_path: Path) -> None:
    store.pull(str(tiny), name="tiny")
    path = tmp_path / "lm" / "catena" / "tiny" / tiny.name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(ConflictError):
        store.lay_out("tiny", "lmstudio", tmp_path / "lm")
    assert path.read_bytes() == b"mine"


def test_a_model_of_ollamas_own_under_that_name_is_not_replaced(store: Store, tiny: Path, tmp_path: Path) -> None:
    store.pull(str(tiny), name="tiny")
    path = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(ConflictError):
        store.lay_out("tiny", "ollama", tmp_path)
    assert path.read_text() == "{}"


@pytest.mark.parametrize("program", ["ollama", "lmstudio", "llama.cpp"])
def test_a_program_gets_no_model_that_it_cannot_run(store: Store, encoder: Path, tmp_path: Path, program: str) -> None:
    store.pull(str(encoder), name="enc")
    with pytest.raises(UnsupportedError, match="onnx"):
        store.lay_out("enc", program, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_program_that_nobody_knows_is_refused_with_the_known_ones(store: Store, tiny: Path) -> None:
    store.pull(str(tiny), name="tiny")
    with pytest.raises(InputError) as caught:
        store.lay_out("tiny", "../ollama")
    assert "lmstudio" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_said(store: Store, tiny: Path, tmp_path: Path) -> None:
    store.pull(str(tiny), name="tiny")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ResourceError, match="cannot be written"):
        store.lay_out("tiny", "ollama", tmp_path / "file")


def test_a_shared_file_that_is_changed_by_anybody_is_not_used(
    store: Store, person: Path, large: Path, change: Callable[[Path, int], None]
) -> None:
    store.pull(str(large), name="big")
    store.lay_out("big", "lmstudio")
    (found,) = store.found()
    store.resolve("big")
    change(found.path, 5_000_000)
    with pytest.raises(IntegrityError):
        store.resolve("big")
