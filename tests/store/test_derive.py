"""Models made of stored ones share their files, name their parents, and never take another model's name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.conftest import Gguf

from catena.core.errors import ConflictError, InputError, IntegrityError, NotFoundError, TooLargeError
from catena.store import Change, Store


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def send(store: Store, data: bytes) -> str:
    with store.receiving(digest(data)) as upload:
        for start in range(0, len(data), 1000):
            upload.write(data[start : start + 1000])
    return digest(data)


def num_files(home: Path) -> int:
    return sum(path.is_file() for path in (home / "blobs" / "sha256").rglob("*"))


def test_a_copy_shares_the_files_and_outlives_the_original(store: Store, tiny: Path, home: Path) -> None:
    base = store.pull(str(tiny), name="tiny").row
    row = store.copy("tiny", "twin")
    assert (row.name, row.manifest.files) == ("twin", base.manifest.files)
    assert row.digest != base.digest
    store.remove("tiny")
    store.collect()
    assert store.resolve("twin").path("weights").read_bytes() == tiny.read_bytes()
    assert num_files(home) == 1


def test_a_copy_takes_no_name_that_stands_for_other_files(store: Store, tiny: Path, large: Path) -> None:
    store.pull(str(tiny), name="tiny")
    store.pull(str(large), name="large")
    with pytest.raises(ConflictError):
        store.copy("tiny", "large")
    for name in ("default", "a/b", ""):
        with pytest.raises(InputError):
            store.copy("tiny", name)
    with pytest.raises(NotFoundError):
        store.copy("tinny", "other")
    assert [row.name for row in store.models()] == ["large", "tiny"]


def test_a_derived_model_names_its_parent_and_carries_its_own_facts(store: Store, tiny: Path) -> None:
    base = store.pull(str(tiny), name="tiny").row
    row = store.derive("tiny", "poet", Change({"default.temperature": 0.5}, parents=("sha256:" + "a" * 64,)))
    assert row.manifest.provenance.source == "model:tiny"
    assert row.manifest.provenance.parents == (base.digest, "sha256:" + "a" * 64)
    assert row.manifest.facts == {**base.manifest.facts, "default.temperature": 0.5}
    assert row.manifest.files == base.manifest.files
    assert store.manifest(row.manifest.provenance.parents[0]) == base.manifest
    again = store.derive("tiny", "poet", Change({"default.temperature": 0.9}))
    assert store.resolve("poet").digest == again.digest != row.digest


def test_a_template_of_its_own_is_a_file_of_the_derived_model(store: Store, tiny: Path) -> None:
    store.pull(str(tiny), name="tiny")
    row = store.derive("tiny", "short", Change(template="{{ messages[0].content }}"))
    assert store.chat_template("short") == "{{ messages[0].content }}"
    assert store.chat_template("tiny") == "{{ messages }}"
    model = store.resolve("short")
    assert model.path("template").read_text() == "{{ messages[0].content }}"
    assert row.manifest.chat_template_digest == digest(b"{{ messages[0].content }}")
    store.check_files(row.digest, is_full=True)
    again = store.derive("short", "shorter", Change(template="x"))
    assert [entry.role for entry in again.manifest.files] == ["weights", "template"]
    assert store.chat_template("shorter") == "x"
    with pytest.raises(TooLargeError):
        store.derive("tiny", "long", Change(template="x" * ((1 << 20) + 1)))


def test_a_model_without_a_template_has_an_empty_one(store: Store, encoder: Path) -> None:
    store.pull(str(encoder), name="encoder")
    assert store.chat_template("encoder") == ""


def test_a_file_that_was_sent_becomes_a_model(store: Store, gguf: Gguf) -> None:
    sent = send(store, gguf.file())
    assert store.has(sent)
    row = store.adopt("sent", {"tiny.gguf": sent})
    assert row.manifest.provenance.source == "upload:tiny.gguf"
    assert row.manifest.provenance.source_digest == sent
    assert (row.manifest.task, row.manifest.format) == ("generate", "gguf")
    assert store.resolve("sent").path("weights").read_bytes()[:4] == b"GGUF"
    store.collect()
    assert store.has(sent)


def test_companions_are_told_by_their_names(store: Store, encoder: Path) -> None:
    files = {path.name: send(store, path.read_bytes()) for path in sorted(encoder.iterdir())}
    row = store.adopt("encoder", files)
    assert {entry.role for entry in row.manifest.files} == {"weights", "tokenizer", "config"}
    with pytest.raises(InputError, match="no part of"):
        store.adopt("encoder", {**files, "notes.txt": files["config.json"]})


def test_what_was_not_sent_or_is_no_model_is_refused(store: Store, gguf: Gguf) -> None:
    with pytest.raises(NotFoundError):
        store.adopt("gone", {"a.gguf": digest(b"never sent")})
    text = send(store, b"a text")
    with pytest.raises(InputError, match="none of the files"):
        store.adopt("text", {"a.txt": text})
    with pytest.raises(InputError, match="not parts of one"):
        store.adopt("two", {"a.gguf": send(store, gguf.file()), "b.gguf": send(store, gguf.file())})
    with pytest.raises(IntegrityError):
        store.adopt("path", {"a.gguf": "sha256:../../../etc/passwd"})
    assert store.models() == []


def test_a_file_with_another_digest_leaves_nothing(
    store: Store, home: Path, drafts: Callable[[Path], list[str]]
) -> None:
    with pytest.raises(IntegrityError), store.receiving(digest(b"this")) as upload:
        upload.write(b"that")
    assert num_files(home) == 0
    assert drafts(home) == []
    assert not store.has(digest(b"this"))


def test_a_file_over_the_limit_is_refused_while_it_comes(open_store: Callable[..., Store], home: Path) -> None:
    with pytest.raises(TooLargeError), open_store(max_file_bytes=10).receiving(digest(b"x")) as upload:
        upload.write(b"12345")
        upload.write(b"123456")
    assert num_files(home) == 0


def test_a_sent_file_that_no_model_needs_is_collected(store: Store, home: Path) -> None:
    send(store, b"nobody needs this")
    assert store.collect().num_files == 1
    assert num_files(home) == 0
