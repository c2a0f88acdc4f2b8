"""Files and folders of this machine come in whole, checked, and without a copy where the disk allows."""

from __future__ import annotations

import errno
import grp
import os
import pickle
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import (
    CancelledError,
    CatenaError,
    ConflictError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    ResourceError,
    TooLargeError,
    UnsupportedError,
)
from catena.store import Progress, Store
from catena.store.pull import local

Drafts = Callable[[Path], list[str]]


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another disk: nothing can be shared."""
    monkeypatch.setattr(local, "share", lambda *_: None)


def test_a_file_on_the_same_disk_is_shared_and_not_copied(store: Store, large: Path) -> None:
    pulled = store.pull(str(large))
    path = store.resolve("large").path("weights")
    assert pulled.how in ("cloned", "linked")
    assert path.read_bytes() == large.read_bytes()
    if pulled.how == "linked":
        assert path.samefile(large)


def test_editing_the_original_of_a_linked_file_is_found_and_replacing_it_is_harmless(store: Store, large: Path) -> None:
    data = large.read_bytes()
    how = store.pull(str(large)).how
    draft = large.with_suffix(".new")
    draft.write_bytes(b"something else")
    draft.replace(large)
    assert store.resolve("large").path("weights").read_bytes() == data
    second = large.with_name("second.gguf")
    second.write_bytes(data[:-1] + b"x")
    assert store.pull(str(second)).how == how
    with second.open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"edited in place")
    if how == "linked":
        with pytest.raises(IntegrityError, match="written to"):
            store.resolve("second")
    else:
        assert store.resolve("second").name == "second"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_copied(
    store: Store, tiny: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catena.store.pull.local.grp.getgrgid", lambda gid: grp.struct_group(("all", "x", gid, [])))
    tiny.chmod(mode)
    assert store.pull(str(tiny)).how in ("copied", "cloned")
    assert not store.resolve("tiny-model").path("weights").samefile(tiny)


@pytest.mark.usefixtures("copying")
def test_a_file_on_another_disk_is_copied_and_the_copy_cannot_be_written(store: Store, large: Path) -> None:
    told: list[Progress] = []
    assert store.pull(str(large), progress=told.append).how == "copied"
    path = store.resolve("large").path("weights")
    assert path.read_bytes() == large.read_bytes()
    assert path.stat().st_mode & 0o222 == 0
    assert {step.phase for step in told} == {"store"}
    assert told[-1].done_bytes == told[-1].total_bytes == large.stat().st_size


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("is_changed", [False, True])
def test_a_copy_that_was_cut_goes_on_only_if_the_source_is_unchanged(
    store: Store, large: Path, home: Path, drafts: Drafts, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    monkeypatch.setattr(local, "SYNC_BYTES", 1 << 20)

    def cut(step: Progress) -> None:
        if step.done_bytes > 5 << 20:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        store.pull(str(large), progress=cut)
    assert "0.part" in drafts(home)
    if is_changed:
        large.write_bytes(large.read_bytes()[:-1] + b"!")
    told: list[Progress] = []
    store.pull(str(large), progress=told.append)
    assert (told[0].done_bytes > 5 << 20) is not is_changed
    assert store.resolve("large").path("weights").read_bytes() == large.read_bytes()
    assert drafts(home) == []


@pytest.mark.usefixtures("copying")
def test_bytes_of_a_cut_copy_that_were_never_synced_are_not_trusted(
    store: Store, large: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SYNC_BYTES", 2 << 20)

    def cut(step: Progress) -> None:
        if step.done_bytes >= 7 << 20:
            raise CancelledError("power cut")

    with pytest.raises(CancelledError):
        store.pull(str(large), progress=cut)
    part = next((home / "blobs" / "drafts").rglob("0.part"))
    with part.open("r+b") as file:
        file.seek(6 << 20)
        file.write(bytes(part.stat().st_size - (6 << 20)))
    store.pull(str(large))
    assert store.resolve("large").path("weights").read_bytes() == large.read_bytes()


@pytest.mark.usefixtures("copying")
def test_a_source_that_changes_while_it_is_read_is_refused(
    store: Store, large: Path, home: Path, drafts: Drafts
) -> None:
    def write(step: Progress) -> None:
        if step.done_bytes == 1 << 20:
            with large.open("ab") as file:
                file.write(b"more")

    with pytest.raises(ConflictError, match="changed while"):
        store.pull(str(large), progress=write)
    assert store.models() == []
    assert drafts(home) == []


def test_a_folder_with_weights_tokenizer_and_configuration_is_one_model(store: Store, encoder: Path) -> None:
    row = store.pull(str(encoder)).row
    assert row.name == "encoder"
    model = store.resolve("encoder")
    assert model.path("tokenizer").read_text() == (encoder / "tokenizer.json").read_text()
    assert (row.manifest.task, row.manifest.facts["embedding_width"]) == ("embed", 8)


def test_naming_the_onnx_file_brings_its_companions(store: Store, encoder: Path) -> None:
    row = store.pull(str(encoder / "model.onnx")).row
    assert row.name == "encoder"
    assert {entry.role for entry in row.manifest.files} == {"weights", "tokenizer", "config"}


def test_a_folder_with_one_gguf_and_a_template_is_one_model(store: Store, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Some Model"
    folder.mkdir()
    tiny.rename(folder / "weights.gguf")
    (folder / "chat_template.jinja").write_text("{{ mine }}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    row = store.pull(str(folder)).row
    assert row.name == "some-model"
    assert [entry.role for entry in row.manifest.files] == ["weights", "template"]


def test_a_projector_beside_the_weights_belongs_to_the_model(
    store: Store, tiny: Path, tmp_path: Path, gguf: Any
) -> None:
    folder = tmp_path / "seeing"
    folder.mkdir()
    tiny.rename(folder / "weights.gguf")
    entries = (("general.architecture", 8, "clip"), ("clip.has_audio_encoder", 7, True))
    (folder / "seeing-MMPROJ-f16.gguf").write_bytes(gguf.file(entries))
    manifest = store.pull(str(folder)).row.manifest
    assert [(entry.role, entry.name) for entry in manifest.files][1:] == [("projector", "mmproj.gguf")]
    assert manifest.facts["modalities"] == "text audio"
    (folder / "mmproj-q8_0.gguf").write_bytes(gguf.file(entries))
    with pytest.raises(InputError, match="2 projectors"):
        store.pull(str(folder))


@pytest.mark.parametrize("entries", [(), (("general.architecture", 8, "clip"),)])
def test_what_is_only_called_a_projector_is_refused(
    store: Store, tiny: Path, tmp_path: Path, gguf: Any, entries: Any
) -> None:
    folder = tmp_path / "blind"
    folder.mkdir()
    tiny.rename(folder / "weights.gguf")
    (folder / "mmproj.gguf").write_bytes(gguf.file(entries or gguf.TINY))
    with pytest.raises(FormatError, match="projector"):
        store.pull(str(folder))


def test_a_folder_without_a_model_or_with_several_is_refused(store: Store, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(NotFoundError):
        store.pull(str(folder))
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(tiny.read_bytes())
    with pytest.raises(InputError, match="2 models"):
        store.pull(str(folder))


def test_links_are_followed_once_when_a_model_comes_in(store: Store, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.gguf").symlink_to(tiny)
    store.pull(str(folder))
    path = store.resolve("snapshot").path("weights")
    assert not path.is_symlink()
    assert path.read_bytes() == tiny.read_bytes()
    (tmp_path / "broken.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    for name in ("broken.gguf", "loop.gguf"):
        with pytest.raises(NotFoundError):
            store.pull(str(tmp_path / name))


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_plain_file_is_refused_without_waiting(store: Store, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.gguf"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(path))
    with pytest.raises((InputError, IntegrityError)):
        store.pull(str(path), name="m")


class Bomb:
    def __reduce__(self) -> Any:
        return (sys.exit, ("a pickle was loaded",))


@pytest.mark.parametrize("name", ["m.pt", "m.pkl", "m.bin", "m.ckpt", "m.onnx", "m.gguf", "model"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_are_refused_by_name_and_by_content(store: Store, tmp_path: Path, name: str, protocol: int) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(), protocol))
    with pytest.raises(UnsupportedError, match="pickle"):
        store.pull(str(path))


def test_an_archive_of_pickles_is_refused_whatever_it_is_called(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(UnsupportedError, match="pickle"):
        store.pull(str(path))


def test_a_gguf_called_bin_is_refused_by_name(store: Store, tiny: Path) -> None:
    with pytest.raises(UnsupportedError):
        store.pull(str(tiny.rename(tiny.with_suffix(".bin"))))


def test_a_malformed_file_leaves_nothing(store: Store, tiny: Path, home: Path, drafts: Drafts) -> None:
    tiny.write_bytes(tiny.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"Tiny Model\.gguf"):
        store.pull(str(tiny))
    assert store.models() == []
    assert drafts(home) == []
    assert store.collect().num_files == 0


def test_a_part_without_the_first_is_refused_by_name(store: Store, tiny: Path) -> None:
    with pytest.raises(NotFoundError, match=r"m-00001-of-00003\.gguf is missing"):
        store.pull(str(tiny.rename(tiny.with_name("m-00002-of-00003.gguf"))))


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(open_store: Callable[..., Store], large: Path) -> None:
    with pytest.raises(TooLargeError):
        open_store(max_file_bytes=1 << 20).pull(str(large))


@pytest.mark.parametrize("source", ["nothing-here", "./nothing.gguf", "a\0b", "x" * 5000, "", "smollm2"])
def test_a_source_that_is_nothing_is_not_found_with_names_that_are_known(store: Store, source: str) -> None:
    with pytest.raises(CatenaError) as caught:
        store.pull(source)
    assert caught.value.code in ("not_found", "invalid_input")
    if source == "smollm2":
        assert "smollm2-135m-instruct" in caught.value.hint


@pytest.mark.parametrize("source", ["https://example.org/m.gguf", "s3:some/model", "ollama:x"])
def test_sources_of_a_kind_that_is_not_known_are_refused(store: Store, source: str) -> None:
    with pytest.raises(UnsupportedError):
        store.pull(source)


def test_a_file_name_that_cannot_be_printed_does_no_harm(store: Store, tiny: Path) -> None:
    odd = tiny.rename(os.fsdecode(os.fsencode(tiny.parent) + b"/od\xffd\x1b[2J.gguf"))
    row = store.pull(str(odd)).row
    assert row.manifest.files[0].name.isprintable()
    assert store.resolve(row.name).path("weights").exists()


@pytest.mark.usefixtures("copying")
def test_a_full_disk_is_told_and_nothing_is_lost_or_left(
    store: Store, tiny: Path, large: Path, home: Path, drafts: Drafts
) -> None:
    digest = store.pull(str(tiny), name="tiny").row.digest
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, hard))
    try:
        with pytest.raises(ResourceError, match="disk is full"):
            store.pull(str(large))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert drafts(home) == []
    assert [row.name for row in store.models()] == ["tiny"]
    store.check_files(digest, is_full=True)
    assert store.pull(str(large)).is_new


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("call", ["write", "sync", "rename"])
def test_no_step_of_a_pull_leaves_anything_when_the_disk_refuses_it(
    store: Store, large: Path, home: Path, drafts: Drafts, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(os, "pwrite", refuse)
        elif call == "sync":
            patch.setattr("catena.store.blobs.sync", refuse)
        else:
            patch.setattr(Path, "replace", refuse)
        with pytest.raises(ResourceError):
            store.pull(str(large))
    assert drafts(home) == []
    assert store.models() == []
    assert store.collect().num_files == 0
    assert store.pull(str(large)).how == "copied"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk of 4 MB")
def test_a_disk_that_is_really_full(tmp_path: Path, large: Path) -> None:
    """In a mount namespace of its own, so that nothing stays mounted."""
    script = f"""
import subprocess, sys
from pathlib import Path
home = Path({str(tmp_path / "small")!r})
home.mkdir()
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(home)], capture_output=True).returncode:
    sys.exit(77)
from catena.core.errors import ResourceError
from catena.core.settings import StoreSettings
from catena.store import Store
from catena.watch.keys import Signer
store = Store.open(home, StoreSettings(), Signer.open(home))
try:
    store.pull({str(large)!r})
except ResourceError as error:
    assert "full" in error.message, error
    assert store.models() == []
    assert [path for path in (home / "blobs").rglob("*") if path.is_file() and path.name != "lock"] == []
    sys.exit(0)
sys.exit(1)
"""
    command = ["unshare", "--mount", sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine does not let root mount a disk")
    assert done.returncode == 0, done.stderr


def test_pulling_a_large_file_by_link_takes_no_time_for_writing(store: Store, large: Path) -> None:
    started_s = time.process_time()
    pulled = store.pull(str(large))
    assert pulled.bytes_stored == large.stat().st_size
    assert time.process_time() - started_s < 2
