"""PyTorch through transformers: the library's own numbers, samplers, devices by name, and nothing foreign that is run.

torch is large and no part of `dev`: `pip install 'catena[torch]'` lets these tests and its conformance suites run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'catena[torch]'")
transformers = pytest.importorskip("transformers", reason="pip install 'catena[torch]'")

from tests.conformance.asking import ask, chat, text_of, usage_of  # noqa: E402
from tests.conformance.conftest import stored  # noqa: E402

from catena.core.errors import FormatError, ResourceError, UnsupportedError  # noqa: E402
from catena.core.manifest import StoredModel  # noqa: E402
from catena.core.messages import CompletionRequest, EmbedRequest, OutputFormat, Sampling  # noqa: E402
from catena.core.protocols import Placement  # noqa: E402
from catena.run.engines.torch import Engine, runtime  # noqa: E402
from catena.run.engines.torch.sampling import Sampler  # noqa: E402

pytestmark = pytest.mark.anyio
Load = Callable[..., Awaitable[Any]]


@pytest.fixture
async def load(anyio_backend: str) -> AsyncGenerator[Load]:
    opened: list[Any] = []

    async def one(model: StoredModel, **wishes: Any) -> Any:
        assert Engine().accepts(model) is None
        opened.append(await Engine().load(model, Placement(**{"threads": 1, "slots": 2, **wishes})))
        return opened[-1]

    yield one
    for session in opened:
        await session.close()


async def answer(session: Any, request: Any) -> list[Any]:
    return [event async for event in session.generate(request)]


def reference(model: StoredModel, kind: Any) -> Any:
    return kind.from_pretrained(model.path("weights").parent, local_files_only=True).eval()


async def test_a_greedy_answer_is_that_of_the_library(load: Load) -> None:
    model = stored("tiny-llama")
    prompt = "one, two, three, " * 40  # read in several parts
    events = await answer(await load(model), ask(prompt, max_tokens=24))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.path("weights").parent)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    found = reference(model, transformers.LlamaForCausalLM).generate(ids, max_new_tokens=24, do_sample=False)
    assert text_of(events) == tokenizer.decode(found[0, ids.shape[1] :])
    assert usage_of(events).prompt_tokens == ids.shape[1]


async def test_a_conversation_is_written_by_the_template_of_the_tokenizer(load: Load) -> None:
    model = stored("tiny-llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.path("weights").parent)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say hello."}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>Say hello.</s><|assistant|>"
    session = await load(model)
    as_chat = await answer(session, chat("Say hello.", max_tokens=8))
    as_text = await answer(session, CompletionRequest("m", text, Sampling(max_tokens=8, temperature=0.0)))
    assert text_of(as_chat) == text_of(as_text)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
async def test_vectors_are_those_of_the_library(load: Load, pooling: str) -> None:
    model = stored("tiny-bert")
    manifest = msgspec.structs.replace(model.manifest, facts={**model.manifest.facts, "pooling": pooling})
    session = await load(StoredModel(manifest, model.digest, model.paths))
    found = await session.embed(EmbedRequest("m", ("Say hello.", "one")))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.path("weights").parent)
    network = reference(model, transformers.BertModel)
    for text, vector in zip(("Say hello.", "one"), found.vectors, strict=True):
        with torch.inference_mode():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(0)
        got = torch.frombuffer(bytearray(vector), dtype=torch.float32)
        assert torch.allclose(got, expected / expected.norm(), atol=1e-5)


def drawn(logits: list[float], count: int = 400, **sampling: Any) -> set[int]:
    sampler = Sampler(Sampling(**{"temperature": 1.0, "seed": 3, **sampling}), None, [0], frozenset({3}), 0)
    return {sampler.next(torch.tensor(logits)) for _ in range(count)}


def test_samplers_leave_out_what_they_are_asked_to() -> None:
    logits = [2.0, 1.9, 1.0, 0.0]
    assert drawn(logits) == {0, 1, 2, 3}
    assert drawn(logits, temperature=0.0) == {0}
    assert drawn(logits, top_k=2) == {0, 1}
    assert drawn(logits, top_p=0.5) == {0, 1}  # 0.42 alone is less than 0.5
    assert drawn(logits, top_p=0.0) == {0}
    assert drawn(logits, min_p=0.5) == {0, 1}
    assert drawn(logits, ignore_eos=True) == {0, 1, 2}
    assert drawn(logits, temperature=0.0, logit_bias={2: 5.0}) == {2}
    assert drawn(logits, 1, temperature=0.0, repeat_penalty=4.0) == {1}  # 0 is in the prompt
    assert drawn(logits, 2, temperature=0.0, presence_penalty=0.5) == {0, 1}
    assert drawn(logits, 3, temperature=0.0, frequency_penalty=0.05) == {0}
    assert drawn(logits, 4, temperature=0.0, frequency_penalty=0.05) == {0, 1}


def test_logits_that_are_no_numbers_are_not_drawn_from() -> None:
    with pytest.raises(RuntimeError):
        drawn([float("nan")] * 4, 1)


@pytest.mark.parametrize("wanted", ["cuda:99", "tpu", "", "CPU", "cpu:1", "cuda:0;x"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(wanted: str) -> None:
    with pytest.raises(ResourceError) as caught:
        runtime.device(wanted)
    assert "cpu" in caught.value.hint


def test_devices_are_chosen_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ResourceError) as caught:
        runtime.device("cuda:2")
    assert "cuda:0 to cuda:1" in caught.value.hint


async def test_what_nothing_here_can_bind_is_refused(load: Load) -> None:
    session = await load(stored("tiny-llama"))
    for kind in ("json", "schema", "grammar"):
        with pytest.raises(UnsupportedError):
            await answer(session, chat("a", output=OutputFormat(kind, {}, "root ::= x")))


def copied(name: str, folder: Path) -> StoredModel:
    model = stored(name)
    paths = {key: Path(shutil.copy(path, folder / key)) for key, path in model.paths.items()}
    return StoredModel(model.manifest, model.digest, paths)


async def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    model = copied("tiny-llama", tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.chmod(0o600)
    path.write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(FormatError, match="weights"):
        await Engine().load(model, Placement())


async def test_code_that_came_with_a_model_is_never_run(tmp_path: Path) -> None:
    model = copied("tiny-llama", tmp_path)
    proof = tmp_path / "proof"
    (tmp_path / "modeling_own.py").write_text(f"open({str(proof)!r}, 'w')\nclass Own: pass\n")
    path = tmp_path / "config.json"
    path.chmod(0o600)
    auto_map = {"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own", "auto_map": auto_map}))
    facts = {**model.manifest.facts, "needs_code": True}
    needy = StoredModel(msgspec.structs.replace(model.manifest, facts=facts), model.digest, model.paths)
    assert "none is run" in (Engine().accepts(needy) or "")
    with pytest.raises(FormatError):
        await Engine().load(model, Placement())
    assert not proof.exists()


async def test_a_pickle_beside_the_weights_is_not_read(tmp_path: Path) -> None:
    model = copied("tiny-llama", tmp_path)
    model.path("weights").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch proof'\ntR.")
    with pytest.raises(FormatError):
        await Engine().load(model, Placement())


def test_models_that_need_more_are_refused_with_the_reason() -> None:
    model = stored("tiny-llama")

    def reason(**changes: Any) -> str:
        manifest = msgspec.structs.replace(model.manifest, **changes)
        return Engine().accepts(StoredModel(manifest, model.digest, {})) or ""

    assert "not gguf" in reason(format="gguf")
    assert "does not transcribe" in reason(task="transcribe")
    assert "awq" in reason(facts={"quantisation": "awq"})
    assert "tokenizer" in reason(files=tuple(each for each in model.manifest.files if each.role != "tokenizer"))
