"""Models of other programs: found where those keep them, taken without a byte of new space, never followed outside."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import CatenaError, IntegrityError, NotFoundError, UnsupportedError
from catena.reach.presets import Preset
from catena.store import Store, elsewhere
from catena.store.elsewhere import walking
from catena.store.elsewhere.templates import FORMS

VARIABLES = ("OLLAMA_MODELS", "LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "MODELSCOPE_CACHE",
             "XDG_CACHE_HOME")  # fmt: skip
Layers = dict[str, bytes | str]


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a person who set nothing."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("catena.store.elsewhere.ollama.SERVICE", tmp_path / "no-service")
    home = tmp_path / "person"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


class Ollama:
    """A folder of models as Ollama lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs").mkdir(parents=True, exist_ok=True)

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.root / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def add(self, name: str, layers: Layers, host: str = "registry.ollama.ai/library") -> Path:
        """Add a model; gives the path of its weights."""
        listed = []
        for kind, data in layers.items():
            media_type = f"application/vnd.ollama.image.{kind}"
            listed.append({"mediaType": media_type, **self.blob(data if isinstance(data, bytes) else data.encode())})
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", **self.blob(b"{}")}
        path = self.root / "manifests" / host / name.replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": listed}))
        digest = next(layer["digest"] for layer in listed if layer["mediaType"].endswith(".model"))
        return self.root / "blobs" / digest.replace(":", "-")


@pytest.fixture
def ollama(person: Path) -> Ollama:
    return Ollama(person / ".ollama" / "models")


@pytest.fixture
def weights(gguf: Any) -> bytes:
    """Of some 8 MB, so that blocks of the disk can be told from noise."""
    return gguf.file(tensors=(("w", (1 << 21,), 0, 1 << 23),))


def hub(folder: Path, repository: str, files: dict[str, bytes], revision: str = "a" * 40) -> Path:
    """A repository in the layout of the Hugging Face cache; gives its snapshot."""
    root = folder / repository
    snapshot = root / "snapshots" / revision
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(revision)
    for name, data in files.items():
        blob = root / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    return snapshot


def names(store: Store) -> list[tuple[str, str, str]]:
    return [(found.program, found.name, found.format) for found in store.found() if not found.refusal]


def disk_bytes(*folders: Path) -> int:
    """What the files below some folders take on the disk, each counted once however many names it has."""
    taken: dict[int, int] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            status = path.lstat()
            taken[status.st_ino] = status.st_blocks * 512
    return sum(taken.values())


def test_where_nothing_lies_nothing_is_found(store: Store, person: Path) -> None:
    assert store.found() == []


def test_a_model_of_ollama_is_taken_without_new_space_and_with_what_its_modelfile_sets(
    store: Store, home: Path, ollama: Ollama, weights: bytes
) -> None:
    layers: Layers = {
        "model": weights,
        "template": "{{ .Prompt }}",
        "params": '{"temperature": 0.5, "stop": ["<|end|>", "x"], "num_ctx": 4096, "top_k": 20, "num_predict": 99}',
        "system": "You are short.",
        "messages": '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]',
        "license": "MIT\n\nmore of it",
    }
    blob = ollama.add("tiny:1b", layers)
    assert names(store) == [("ollama", "tiny:1b", "gguf")]
    before = disk_bytes(home, ollama.root)
    pulled = store.pull("found:ollama/tiny:1b")
    added = disk_bytes(home, ollama.root) - before
    assert pulled.how in ("linked", "cloned") and pulled.row.name == "tiny-1b"
    # The draft folders, and pages of the database; none of the 8 MB.
    assert added < 512 << 10
    stored = store.resolve("tiny-1b").path("weights")
    assert stored.stat().st_nlink == 2 and stored.samefile(blob)
    manifest = pulled.row.manifest
    assert (manifest.provenance.source, manifest.licence) == ("found:ollama/tiny:1b", "MIT")
    preset = Preset.of(manifest)
    assert (preset.sampling.temperature, preset.sampling.top_k, preset.sampling.max_tokens) == (0.5, 20, 99)
    assert preset.sampling.stop == ("<|end|>", "x")
    assert preset.system == "You are short."
    assert [message.role for message in preset.messages] == ["user", "assistant"]
    (found,) = store.found()
    assert found.stored_as == "tiny-1b"
    assert any("template" in left for left in found.leaves) and any("num_ctx" in left for left in found.leaves)


@pytest.mark.parametrize("own", ["", "{{ mine }}"])
def test_a_template_of_a_known_form_stands_in_where_the_weights_have_none(
    store: Store, ollama: Ollama, gguf: Any, own: str
) -> None:
    data = gguf.with_entries(("tokenizer.chat_template", 8, own))
    template = "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>{{ end }}"
    ollama.add("m:latest", {"model": data, "template": template})
    store.pull("found:ollama/m", name="m")
    assert store.chat_template("m") == (own or FORMS[0].jinja)
    assert "ChatML" in store.found()[0].leaves[0]


def test_a_template_of_an_unknown_form_stands_in_for_nothing(store: Store, ollama: Ollama, gguf: Any) -> None:
    data = gguf.with_entries(("tokenizer.chat_template", 8, ""))
    ollama.add("m:latest", {"model": data, "template": "[INST] {{ .Prompt }} [/INST]"})
    store.pull("found:ollama/m", name="m")
    assert store.chat_template("m") == ""


def test_the_other_program_may_delete_its_name_and_the_model_stays(
    store: Store, ollama: Ollama, weights: bytes
) -> None:
    ollama.add("tiny:latest", {"model": weights})
    store.pull("found:ollama/tiny", name="m")
    shutil.rmtree(ollama.root)
    store.check_files(store.resolve("m").digest, is_full=True)


def test_what_the_other_program_writes_into_a_linked_file_is_noticed(
    store: Store, ollama: Ollama, weights: bytes, change: Callable[[Path, int], None]
) -> None:
    blob = ollama.add("tiny:latest", {"model": weights})
    store.pull("found:ollama/tiny", name="m")
    store.resolve("m")
    change(blob, 5_000_000)
    with pytest.raises(IntegrityError):
        store.resolve("m")


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444])
def test_the_mode_that_the_other_program_gave_its_file_stays(
    store: Store, ollama: Ollama, weights: bytes, mode: int
) -> None:
    blob = ollama.add("tiny:latest", {"model": weights})
    blob.chmod(mode)
    store.pull("found:ollama/tiny", name="m")
    store.remove("m")
    store.collect()
    assert blob.stat().st_mode & 0o777 == mode
    assert blob.read_bytes() == weights


@pytest.mark.parametrize(("members", "how"), [([], "linked"), (["somebody"], "copied")])
def test_a_file_that_a_group_may_write_to_is_linked_where_nobody_else_is_in_it(
    store: Store, ollama: Ollama, weights: bytes, monkeypatch: pytest.MonkeyPatch, members: list[str], how: str
) -> None:
    user = pwd.getpwuid(os.geteuid())
    group = grp.struct_group((user.pw_name, "x", user.pw_gid, members))
    monkeypatch.setattr("catena.store.pull.local.grp.getgrgid", lambda gid: group)
    blob = ollama.add("tiny:latest", {"model": weights})
    blob.chmod(0o664)
    assert blob.stat().st_gid == user.pw_gid
    assert store.pull("found:ollama/tiny").how in (how, "cloned")


def test_a_file_that_others_may_write_to_is_copied(store: Store, ollama: Ollama, weights: bytes) -> None:
    blob = ollama.add("tiny:latest", {"model": weights})
    blob.chmod(0o666)
    assert store.pull("found:ollama/tiny").how in ("copied", "cloned")


def test_a_model_on_another_disk_is_copied(
    store: Store, home: Path, person: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == home.stat().st_dev:
        pytest.skip("this machine has no second file system that anybody may write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        monkeypatch.setenv("OLLAMA_MODELS", folder)
        Ollama(Path(folder)).add("tiny:latest", {"model": weights})
        assert store.pull("found:ollama/tiny").how == "copied"
    store.check_files(store.resolve("tiny").digest, is_full=True)


def test_a_blob_that_is_not_what_its_name_says_is_refused(
    store: Store, ollama: Ollama, weights: bytes, change: Callable[[Path, int], None]
) -> None:
    change(ollama.add("tiny:latest", {"model": weights}), 5_000_000)
    with pytest.raises(IntegrityError, match="damaged"):
        store.pull("found:ollama/tiny")
    assert store.models() == []


def test_names_are_shown_as_ollama_shows_them(store: Store, ollama: Ollama, gguf: Any) -> None:
    data = gguf.file()
    ollama.add("a:latest", {"model": data})
    ollama.add("b:1", {"model": data}, host="registry.ollama.ai/me")
    ollama.add("c:Q4", {"model": data}, host="hf.co/org")
    assert [name for _, name, _ in names(store)] == ["a:latest", "hf.co/org/c:Q4", "me/b:1"]


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ({"model": b"GGUF", "adapter": b"GGUF"}, "adapter"),
        ({"model": b"GGUF", "tensor": b"x"}, "tensors"),
    ],
)
def test_what_of_ollama_cannot_be_taken_is_listed_with_the_reason(
    store: Store, ollama: Ollama, layers: Layers, why: str
) -> None:
    ollama.add("odd:latest", layers)
    assert why in store.found()[0].refusal
    with pytest.raises(UnsupportedError, match=why):
        store.pull("found:ollama/odd")


NO_MANIFEST = ("", "{", "[]", '{"layers": 3}', "[" * 100_000, '{"layers": []}', '{"layers": [{"mediaType": "x"}]}')


@pytest.mark.parametrize("text", NO_MANIFEST)
def test_a_broken_manifest_is_a_reason_and_not_an_end(store: Store, ollama: Ollama, gguf: Any, text: str) -> None:
    ollama.add("good:latest", {"model": gguf.file()})
    (ollama.root / "manifests" / "registry.ollama.ai" / "library" / "good" / "bad").write_text(text)
    assert names(store) == [("ollama", "good:latest", "gguf")]
    assert len(store.found()) == 2


@pytest.mark.parametrize("digest", ["sha256:../../../secret", "sha256:" + "0" * 64, "", "sha256-" + "a" * 63])
def test_a_digest_that_leads_nowhere_is_refused(store: Store, ollama: Ollama, gguf: Any, digest: str) -> None:
    ollama.add("m:latest", {"model": gguf.file()})
    path = ollama.root / "manifests" / "registry.ollama.ai" / "library" / "m" / "latest"
    listing = json.loads(path.read_text())
    listing["layers"][0]["digest"] = digest
    path.write_text(json.dumps(listing))
    with pytest.raises(UnsupportedError, match="not here"):
        store.pull("found:ollama/m")


def test_a_blob_that_is_a_link_out_of_the_folder_is_refused(
    store: Store, ollama: Ollama, gguf: Any, tmp_path: Path
) -> None:
    blob = ollama.add("m:latest", {"model": gguf.file()})
    secret = tmp_path / "secret.gguf"
    blob.rename(secret)
    blob.symlink_to(secret)
    with pytest.raises(UnsupportedError, match="not here"):
        store.pull("found:ollama/m")


@pytest.mark.parametrize("parameters", ['{"top_p": "hot"}', '{"seed": 1e400}', "[1]", '{"stop": 3}', '{"top_k": true}'])
def test_parameters_that_make_no_sense_are_left_out(store: Store, ollama: Ollama, gguf: Any, parameters: str) -> None:
    ollama.add("m:latest", {"model": gguf.file(), "params": parameters})
    assert Preset.of(store.pull("found:ollama/m").row.manifest) == Preset()


def test_the_cache_of_hugging_face_is_read_through_its_links(store: Store, person: Path, gguf: Any) -> None:
    cache = person / ".cache" / "huggingface" / "hub"
    hub(cache, "models--org--one", {"one.gguf": gguf.file()})
    hub(cache, "models--org--two", {"a-Q4.gguf": gguf.file(), "a-Q8.gguf": gguf.file(), "mmproj-a.gguf": gguf.file()})
    hub(cache, "datasets--org--three", {"x.gguf": gguf.file()})
    assert names(store) == [
        ("huggingface", "org/one", "gguf"),
        ("huggingface", "org/two/a-Q4.gguf", "gguf"),
        ("huggingface", "org/two/a-Q8.gguf", "gguf"),
    ]
    pulled = store.pull("found:huggingface/org/two/a-Q8.gguf")
    assert (pulled.row.name, pulled.how) == ("a-q8", "linked")
    assert {found.stored_as for found in store.found() if found.name.endswith("a-Q8.gguf")} == {"a-q8"}


def test_a_blob_of_hugging_face_must_be_what_it_is_called(
    store: Store, person: Path, gguf: Any, change: Callable[[Path, int], None]
) -> None:
    snapshot = hub(person / ".cache" / "huggingface" / "hub", "models--org--one", {"one.gguf": gguf.file()})
    change((snapshot / "one.gguf").resolve(), -1 % (snapshot / "one.gguf").stat().st_size)
    with pytest.raises(IntegrityError, match="damaged"):
        store.pull("found:huggingface/org/one")


def test_of_several_revisions_the_one_that_main_names_is_taken(store: Store, person: Path, gguf: Any) -> None:
    cache = person / ".cache" / "huggingface" / "hub"
    hub(cache, "models--org--one", {"new.gguf": gguf.file()}, "b" * 40)
    hub(cache, "models--org--one", {"old.gguf": gguf.file()}, "a" * 40)
    (cache / "models--org--one" / "refs" / "main").write_text("b" * 40)
    assert store.found()[0].path.name == "new.gguf"


def test_a_snapshot_with_safetensors_is_a_model_of_its_folder(store: Store, person: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    files = {"model.safetensors": data, "config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}'}
    hub(person / ".cache" / "huggingface" / "hub", "models--org--enc", {**files, "tokenizer.json": b"{}"})
    pulled = store.pull("found:huggingface/org/enc")
    assert (pulled.row.name, pulled.row.manifest.task) == ("enc", "embed")
    assert len(pulled.row.manifest.files) == 3


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "LLAMA_CACHE"])
def test_a_cache_that_was_moved_is_found_by_its_variable(
    store: Store, person: Path, gguf: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    moved = tmp_path / "moved"
    monkeypatch.setenv(variable, str(moved))
    hub(moved / "hub" if variable == "HF_HOME" else moved, "models--org--one", {"one.gguf": gguf.file()})
    program = "llama.cpp" if variable == "LLAMA_CACHE" else "huggingface"
    assert names(store) == [(program, "org/one", "gguf")]


def test_the_old_flat_cache_of_llama_cpp_is_read(
    store: Store, person: Path, split_parts: Callable[[Path], None]
) -> None:
    cache = person / ".cache" / "llama.cpp"
    cache.mkdir(parents=True)
    split_parts(cache)
    (cache / "manifest=org=repo=latest.json").write_text("{}")
    assert names(store) == [("llama.cpp", "org_m-00001-of-00002", "gguf")]
    assert len(store.pull("found:llama.cpp/org_m-00001-of-00002", name="m").row.manifest.files) == 2


@pytest.fixture
def split_parts(gguf: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for number in range(2):
            entries = [("split.no", 2, number), ("split.count", 2, 2), ("split.tensors.count", 5, 2)]
            path = folder / f"org_m-0000{number + 1}-of-00002.gguf"
            tensors = ((f"w{number}", (4,), 0, 16),)
            path.write_bytes(gguf.file((*(gguf.TINY if not number else ()), *entries), tensors))

    return write


@pytest.mark.parametrize("place", [".lmstudio", ".cache/lm-studio", "elsewhere"])
def test_lm_studio_is_found_where_it_is_was_or_was_moved_to(store: Store, person: Path, gguf: Any, place: str) -> None:
    folder = person / place / "models" / "me" / "Tiny-GGUF"
    folder.mkdir(parents=True)
    (folder / "tiny-q8.gguf").write_bytes(gguf.file())
    if place == "elsewhere":
        (person / ".lmstudio-home-pointer").write_text(str(person / place) + "\n")
    assert names(store) == [("lmstudio", "me/Tiny-GGUF", "gguf")]
    assert store.pull("found:lmstudio/me/Tiny-GGUF").how == "linked"


@pytest.mark.parametrize("place", ["models/org--a.5b/snapshots/master", "hub/models/org/a___5b", "models/org/a___5b"])
def test_modelscope_is_found_in_its_layouts(store: Store, person: Path, gguf: Any, place: str) -> None:
    folder = person / ".cache" / "modelscope" / place
    folder.mkdir(parents=True)
    (folder / "a.gguf").write_bytes(gguf.file())
    assert names(store) == [("modelscope", "org/a.5b", "gguf")]


def test_a_link_out_of_a_cache_is_never_followed(store: Store, person: Path, gguf: Any, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret.gguf").write_bytes(gguf.file())
    cache = person / ".cache" / "huggingface" / "hub"
    snapshot = hub(cache, "models--org--one", {"good.gguf": gguf.file()})
    (snapshot / "bad.gguf").symlink_to(tmp_path / "private" / "secret.gguf")
    (snapshot / "folder").symlink_to(tmp_path / "private")
    (cache / "models--org--two").symlink_to(tmp_path / "private")
    found = {model.name: model.refusal for model in store.found()}
    assert found == {"org/one/bad.gguf": "secret.gguf is a link out of its folder", "org/one/good.gguf": ""}
    with pytest.raises(UnsupportedError, match="link out"):
        store.pull("found:huggingface/org/one/bad.gguf")


def test_a_cache_of_pickles_is_listed_with_the_reason(store: Store, person: Path) -> None:
    hub(
        person / ".cache" / "huggingface" / "hub", "models--org--old", {"pytorch_model.bin": b"x", "config.json": b"{}"}
    )
    assert "pickle" in store.found()[0].refusal


def test_a_cache_with_loops_and_endless_folders_is_walked_to_an_end(
    store: Store, person: Path, gguf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_ENTRIES", 60)
    root = person / ".lmstudio" / "models"
    folder = root / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "loop").symlink_to(root)
    (folder / "m.gguf").write_bytes(gguf.file())
    os.mkfifo(folder / "pipe.gguf")
    os.mkfifo(person / ".lmstudio-home-pointer")
    snapshot = hub(person / ".cache" / "huggingface" / "hub", "models--org--one", {"one.gguf": gguf.file()})
    (snapshot.parents[1] / "refs" / "main").unlink()
    os.mkfifo(snapshot.parents[1] / "refs" / "main")
    for number in range(200):
        (root / f"z{number}").mkdir()
    assert len(store.found()) <= 60


@pytest.mark.parametrize("name", ["", "ollama", "nothing/x", "ollama/", "ollama/../../etc", "../ollama/x"])
def test_a_name_that_nobody_has_is_refused(store: Store, person: Path, name: str) -> None:
    with pytest.raises(CatenaError) as caught:
        store.pull(f"found:{name}")
    assert caught.value.code in ("invalid_input", "not_found") and caught.value.hint


def test_the_names_that_there_are_are_said(store: Store, ollama: Ollama, gguf: Any) -> None:
    ollama.add("tiny:1b", {"model": gguf.file()})
    with pytest.raises(NotFoundError) as caught:
        store.pull("found:ollama/tny")
    assert "tiny:1b" in caught.value.hint


def test_every_program_has_a_file() -> None:
    folder = Path(elsewhere.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "laying", "templates", "walking"}
    assert files == {program.replace(".", "_") for program in elsewhere.PROGRAMS}
