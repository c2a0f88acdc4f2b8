"""What every engine must do when it loads a model, fails to, and lets go of it (see test_generator for plug-ins)."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.conformance.asking import example
from tests.conformance.conftest import Case, cases, make_engine, placement, stored
from tests.speech import clips

from catena.core import registry
from catena.core.errors import EngineError, FormatError, MissingExtraError, ResourceError
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import (
    ClassifyRequest,
    CompletionRequest,
    EmbedRequest,
    PredictRequest,
    RerankRequest,
    Sampling,
    TranscribeRequest,
)
from catena.core.protocols import Classifier, Embedder, Generator, Predictor, Reranker, Session, Transcriber

pytestmark = pytest.mark.anyio
WARM: set[Case] = set()


def installed() -> set[str]:
    """The engines whose library is here."""
    found: set[str] = set()
    for name in registry.names("engines", all=True):
        with contextlib.suppress(MissingExtraError):
            registry.find("engines", name)
            found.add(name)
    return found


def test_every_engine_accepts_a_sample_model(pytestconfig: pytest.Config) -> None:
    """An engine without one would pass every suite unseen; give it one with --sample."""
    assert {case.engine for case in cases(pytestconfig)} == installed()


def test_a_model_of_another_format_is_refused_with_a_reason(case: Case) -> None:
    foreign = Manifest("foreign", "generate", "stone-tablet", (), "", Provenance("test"))
    reason = make_engine(case.engine).accepts(StoredModel(foreign, "sha256:" + "0" * 64, {}))
    assert reason and "\n" not in reason


SEAMS = {
    "generate": Generator,
    "embed": Embedder,
    "predict": Predictor,
    "classify": Classifier,
    "rerank": Reranker,
    "transcribe": Transcriber,
}


async def use(session: Session, model: StoredModel) -> Any:
    if isinstance(session, Generator):
        request = CompletionRequest("m", "one, two, three,", Sampling(max_tokens=1))
        return [event async for event in session.generate(request)]
    if isinstance(session, Predictor):
        inputs = tuple(example(port, 1) for port in model.manifest.signature.inputs)
        return (await session.predict(PredictRequest("m", inputs))).outputs
    if isinstance(session, Classifier):
        return (await session.classify(ClassifyRequest("m", ("one",)))).labels
    if isinstance(session, Reranker):
        return (await session.rerank(RerankRequest("m", "one", ("two", "three")))).scores
    if isinstance(session, Transcriber):
        request = TranscribeRequest("m", clips.path("austen-0880").read_bytes())
        return [event async for event in session.transcribe(request)]
    assert isinstance(session, Embedder)
    return (await session.embed(EmbedRequest("m", ("one",)))).vectors


async def test_a_loaded_session_states_its_facts_and_stays_within_its_placement(case: Case, tmp_path: Path) -> None:
    place = placement(tmp_path)
    session = await make_engine(case.engine).load(stored(case.model), place)
    facts = session.facts
    assert isinstance(session, SEAMS[case.task])
    assert case.engine in facts.engine and facts.engine != case.engine, "the engine's version is missing"
    assert facts.device == place.device
    if case.task in ("predict", "transcribe"):
        assert facts.context_tokens == 0
    else:
        assert 0 < facts.context_tokens <= place.context_tokens
    assert facts.slots >= 1
    assert facts.memory_bytes >= sum(file.size_bytes for file in stored(case.model).manifest.files)
    await session.close()


async def test_a_closed_session_refuses_requests_and_leaves_nothing_behind(case: Case, tmp_path: Path) -> None:
    engine = make_engine(case.engine)
    await _use_and_close(engine, case, tmp_path)  # whatever a library keeps for good, it has now
    before = _held(tmp_path)
    session = await engine.load(stored(case.model), placement(tmp_path))
    assert await use(session, stored(case.model))
    await session.close()
    await _let_go(before, tmp_path)
    with pytest.raises(EngineError):
        await use(session, stored(case.model))


async def test_a_device_that_is_not_there_is_refused(case: Case, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(int)  # the loop keeps a thread for what engines do off it
    before = _held(tmp_path)
    with pytest.raises(ResourceError):
        await make_engine(case.engine).load(stored(case.model), placement(tmp_path, device="nosuch"))
    await _let_go(before, tmp_path)


def cut_in_half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_in_half, fill_with_noise, empty, Path.unlink], ids=lambda one: one.__name__)
async def test_a_load_that_fails_leaves_nothing_behind(
    case_with_files: Case, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    engine, model = make_engine(case_with_files.engine), stored(case_with_files.model)
    files, run = tmp_path / "files", tmp_path / "run"
    files.mkdir()
    run.mkdir()
    copies = {name: Path(shutil.copy(path, files / name)) for name, path in model.paths.items()}
    damaged = StoredModel(model.manifest, model.digest, copies)
    await _warmed(case_with_files, tmp_path / "warm")
    before = _held(run)
    damage(damaged.path("weights"))
    with pytest.raises((FormatError, EngineError)):
        await engine.load(damaged, placement(run))
    await _let_go(before, run)
    await _use_and_close(engine, case_with_files, run)


async def _warmed(case: Case, folder: Path) -> None:
    """Let a library take whatever it keeps for good: a session is used once per run, and the loop has its thread."""
    if case not in WARM:
        await anyio.Path(folder).mkdir()
        await _use_and_close(make_engine(case.engine), case, folder)
        WARM.add(case)
    await anyio.to_thread.run_sync(int)


async def _use_and_close(engine: Any, case: Case, folder: Path) -> None:
    session = await engine.load(stored(case.model), placement(folder))
    assert await use(session, stored(case.model))
    await session.close()


def _held(folder: Path) -> tuple[int, int, list[Path]]:
    """Open files and sockets, threads made by Python, and files of the session's folder."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), sorted(folder.rglob("*"))


async def _let_go(before: tuple[int, int, list[Path]], folder: Path) -> None:
    """Threads may need a moment to end; then all must be as before."""
    for _ in range(1000):
        files, threads, names = _held(folder)
        if files <= before[0] and threads <= before[1]:
            break
        await anyio.sleep(0.01)
    assert files <= before[0] and threads <= before[1]
    assert names == before[2]
