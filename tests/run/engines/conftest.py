"""The embedded models on their engines, and files that no honest maker of models would write."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from tests.conformance.conftest import Loaded, stored

from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel, Task
from catena.core.protocols import Placement
from catena.run.engines import llama_cpp, onnx

CHAT, ENCODER = "smollm2-135m-instruct", "bge-small-en-v1.5"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def chat_model() -> StoredModel:
    return stored(CHAT)


@pytest.fixture(scope="session")
def encoder() -> StoredModel:
    return stored(ENCODER)


Load = Callable[..., Awaitable[Loaded]]


@pytest.fixture
async def load(anyio_backend: str, chat_model: StoredModel, tmp_path: Path) -> AsyncGenerator[Load]:
    """Load the chat model as wished; sessions that the test leaves open are closed after it."""
    loaded: list[Loaded] = []

    async def one(model: StoredModel = chat_model, **wishes: Any) -> Loaded:
        wishes = {"threads": 1, "slots": 2, "context_tokens": 512, "folder": str(tmp_path), **wishes}
        engine, placement = llama_cpp.Engine(), Placement(**wishes)
        loaded.append(Loaded(engine, model, placement, await engine.load(model, placement)))
        return loaded[-1]

    yield one
    for each in loaded:
        await each.session.close()


@pytest.fixture(scope="module")
async def llama(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Loaded]:
    """One session that most tests share: 3 slots of 1,024 tokens on one thread."""
    engine, model = llama_cpp.Engine(), stored(CHAT)
    folder = str(tmp_path_factory.mktemp("run"))
    placement = Placement(threads=1, slots=3, context_tokens=1024, folder=folder)
    session = await engine.load(model, placement)
    yield Loaded(engine, model, placement, session)
    await session.close()


@pytest.fixture(scope="module")
async def bge(anyio_backend: str) -> AsyncGenerator[Loaded]:
    engine, model, placement = onnx.Engine(), stored(ENCODER), Placement(threads=1)
    session = await engine.load(model, placement)
    yield Loaded(engine, model, placement, session)
    await session.close()


def by_hand(path: Path, name: str, task: Task, form: str) -> StoredModel:
    """A model of one file that no store has seen."""
    digest = "sha256:" + path.name.encode().hex().ljust(64, "0")[:64]
    entry = FileEntry("weights", path.name, path.stat().st_size, digest)
    return StoredModel(Manifest(name, task, form, (entry,), "", Provenance("test")), digest, {path.name: path})


def write_gguf(path: Path, metadata: dict[str, str | float], tensors: dict[str, numpy.ndarray]) -> None:
    """A GGUF file of texts, 32-bit floats, and float32 tensors.

    Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
    """

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += text(key)
        head += struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<If", 6, value)
    body = b""
    for name, values in tensors.items():
        head += text(name) + struct.pack("<I", values.ndim)
        head += struct.pack(f"<{values.ndim}Q", *reversed(values.shape)) + struct.pack("<IQ", 0, len(body))
        body += values.astype("<f4").tobytes()
        body += bytes(-len(body) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
