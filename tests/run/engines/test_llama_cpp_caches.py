"""How a context is kept in memory: in which numbers, what they save, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy
import psutil
import pytest
from tests.conformance.asking import ask, events_of, text_of
from tests.run.engines.conftest import Load, by_hand, write_gguf

from catena.core.errors import UnsupportedError
from catena.core.protocols import Placement
from catena.core.settings import CacheType
from catena.run.engines import llama_cpp
from catena.run.engines.llama_cpp import header
from catena.store.formats import gguf

pytestmark = pytest.mark.anyio
TOKENS = 4096


def test_every_type_that_may_be_set_is_one_of_the_library() -> None:
    known = {kind.name.lower(): number for number, kind in gguf.KINDS.items()}
    library = pytest.importorskip("xllamacpp").ggml_type
    for name in get_args(CacheType):
        assert getattr(library, f"GGML_TYPE_{name.upper()}") == known[name]


async def test_a_cache_of_eight_bits_saves_what_it_says(load: Load) -> None:
    whole, halved = [(await load(slots=1, context_tokens=TOKENS, kv_type=kind)).session for kind in ("f16", "q8_0")]
    known = header.read(Path((await load()).model.path("weights")))
    saved = whole.facts.memory_bytes - halved.facts.memory_bytes
    assert saved == TOKENS * known.cache_token_bytes * 15 // 32, "32 numbers take 34 bytes instead of 64"
    held = [psutil.Process(session.process.pid).memory_info().rss for session in (whole, halved)]
    assert held[0] - held[1] > saved * 0.8


@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_0"])
async def test_a_model_answers_with_each_kind_of_cache(load: Load, kind: CacheType) -> None:
    loaded = await load(kv_type=kind)
    assert "Paris" in text_of(await events_of(loaded, ask("The capital of France is", max_tokens=4)))


async def test_heads_that_are_no_multiple_of_a_block_are_refused_before_loading(tmp_path: Path) -> None:
    path = tmp_path / "narrow.gguf"
    write_gguf(path, {"general.architecture": "llama"}, {"x": numpy.zeros(4)})
    narrow = by_hand(path, "narrow", "generate", "gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_cpp.engine, "read", lambda path: header.Header(512, 960, 10, "", head_widths=(40, 40)))
        with pytest.raises(UnsupportedError, match="32 numbers together, and the heads of narrow have 40"):
            await llama_cpp.Engine().load(narrow, Placement(kv_type="q8_0", folder=str(tmp_path)))
