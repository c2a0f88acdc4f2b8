"""What the official Ollama client must find at a running `catena up`: models listed, shown, kept, pulled and made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from tests.clients.conftest import Gateway, requirement
from tests.clients.ollama.conftest import ASK, EMBEDDER, EXACT, LIMIT_S, MODEL, post, until
from tests.conftest import catena
from tests.run.engines.test_llama_cpp_sampling import write_adapter
from tests.store.conftest import Gguf

pytestmark = pytest.mark.model
MODELS, MEMORY, STORE, MAKING = "models", "memory", "store", "POST /api/create"


@pytest.fixture(autouse=True)
def only_what_was_there(client: ollama.Client) -> Iterator[None]:
    """Models that a test makes are removed after it, and leave the memory."""
    before = names(client)
    yield
    for name in names(client) - before:
        client.delete(name)


def names(client: ollama.Client) -> set[str]:
    return {one.model or "" for one in client.list().models}


@requirement("L01", MODELS, "`list` names the stored models with the tag `latest`, size, digest and time")
def test_the_list(client: ollama.Client) -> None:
    listed = {one.model: one for one in client.list().models}
    assert {f"{MODEL}:latest", f"{EMBEDDER}:latest"} <= set(listed)
    model = listed[f"{MODEL}:latest"]
    assert int(model.size or 0) == 98362432
    assert len(model.digest or "") == 64
    assert model.modified_at and model.modified_at.year > 2000


@requirement("L02", MODELS, "details say format, family, parameters and quantisation")
def test_details(client: ollama.Client) -> None:
    details = client.show(MODEL).details
    assert details is not None
    assert (details.format, details.family, details.families) == ("gguf", "llama", ["llama"])
    assert (details.parameter_size, details.quantization_level) == ("134.52M", "Q4_1")


@requirement("L03", MODELS, "`show` has capabilities that are true: a chat model completes and calls tools")
def test_capabilities(client: ollama.Client) -> None:
    assert client.show(MODEL).capabilities == ["completion", "tools"]
    assert client.show(EMBEDDER).capabilities == ["embedding"]


@requirement("L04", MODELS, "`show` has the facts of the header under their GGUF names, the template and the licence")
def test_facts(client: ollama.Client) -> None:
    shown = client.show(f"{MODEL}:latest")
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] == 8192
    assert shown.modelinfo["general.parameter_count"] == 134515008
    assert "<|im_start|>" in (shown.template or "")
    assert shown.license == "Apache-2.0"
    assert f"FROM {MODEL}" in (shown.modelfile or "")


@requirement("L05", MODELS, "`show` of an unknown model is a 404")
def test_show_unknown(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        client.show("nope")
    assert caught.value.status_code == 404


@requirement("L06", "service", "`/api/version` is one that front ends accept; HEAD / says that somebody is there")
def test_the_version(gateway: Gateway) -> None:
    version = gateway.get("/api/version")
    assert tuple(map(int, version["version"].split("."))) >= (0, 6, 4)
    assert httpx2.head(gateway.url).status_code == 200


@requirement("S01", MEMORY, "an empty prompt loads a model, and `ps` shows it with its context and when it goes")
def test_loading(client: ollama.Client) -> None:
    assert client.generate(MODEL).done_reason == "load"
    loaded = {one.model: one for one in client.ps().models}[f"{MODEL}:latest"]
    assert (loaded.context_length, int(loaded.size_vram or 0)) == (8192, 0)
    assert int(loaded.size or 0) > 98362432
    assert loaded.expires_at is not None
    assert 800 < (loaded.expires_at - datetime.now(UTC)).total_seconds() <= 901


@requirement("S02", MEMORY, "`keep_alive` as a duration moves the time at which a model goes")
def test_a_duration(client: ollama.Client) -> None:
    client.chat(**ASK, keep_alive="30m")
    (loaded,) = [one for one in client.ps().models if one.model == f"{MODEL}:latest"]
    assert loaded.expires_at is not None
    assert 1700 < (loaded.expires_at - datetime.now(UTC)).total_seconds() <= 1801


@requirement("S03", MEMORY, "`keep_alive` -1 keeps a model for as long as its memory is not needed")
def test_for_ever(client: ollama.Client) -> None:
    client.embed(EMBEDDER, "a", keep_alive=-1)
    (loaded,) = [one for one in client.ps().models if one.model == f"{EMBEDDER}:latest"]
    assert loaded.expires_at is not None
    assert loaded.expires_at.year > 2100


@requirement("S04", MEMORY, "`keep_alive` 0 unloads a model: after an answer, or at once with an empty prompt")
def test_unloading(client: ollama.Client) -> None:
    client.embed(EMBEDDER, "a", keep_alive=0)
    until(lambda: f"{EMBEDDER}:latest" not in {one.model for one in client.ps().models})
    client.chat(MODEL, [], keep_alive="5m")
    assert client.chat(MODEL, [], keep_alive=0).done_reason == "unload"
    until(lambda: f"{MODEL}:latest" not in {one.model for one in client.ps().models})


@requirement("S05", MEMORY, "an empty conversation loads a model, and says so")
def test_loading_by_chat(client: ollama.Client) -> None:
    answer = client.chat(MODEL, [])
    assert (answer.done_reason, answer.message.content) == ("load", "")


@requirement("P01", STORE, "`pull` of a model of the catalogue that is here already streams its steps to `success`")
def test_pull(client: ollama.Client) -> None:
    told = [part.status for part in client.pull(EMBEDDER, stream=True)]
    assert (told[0], told[-1]) == ("pulling manifest", "success")
    assert "verifying sha256 digest" in told
    assert client.pull(EMBEDDER).status == "success"


@requirement("P02", STORE, "`pull` of a file on this machine shows bytes done of bytes in all, and makes a model of it")
def test_pull_a_file(client: ollama.Client, models_home: Path, tmp_path: Path) -> None:
    (blob,) = (path for path in (models_home / "blobs" / "sha256").glob("*/*") if path.stat().st_size == 98362432)
    path = tmp_path / "from-a-file.gguf"
    path.write_bytes(blob.read_bytes())
    parts = [part for part in client.pull(str(path), stream=True) if part.total]
    assert parts[-1].total == 98362432
    assert all(0 <= (part.completed or 0) <= 98362432 for part in parts)
    assert "from-a-file:latest" in names(client)
    client.delete("from-a-file")


@requirement("P03", STORE, "`pull` of what is nowhere is an error before the stream")
def test_pull_nothing(client: ollama.Client) -> None:
    for stream in (True, False):
        with pytest.raises(ollama.ResponseError, match="'nonsense' not found") as caught:
            list(client.pull("nonsense", stream=stream))
        assert caught.value.status_code == 404


@requirement("P04", STORE, "`copy` gives a second name, which answers the same; `delete` takes it away")
def test_copy_and_delete(client: ollama.Client) -> None:
    assert client.copy(MODEL, "second:latest").status == "success"
    assert "second:latest" in names(client)
    assert client.chat(**{**ASK, "model": "second"}).message.content == client.chat(**ASK).message.content
    assert client.delete("second").status == "success"
    assert "second:latest" not in names(client)


@requirement("P05", STORE, "`copy` of an unknown model and `delete` of one are a 404; a taken name is a 409")
def test_copy_and_delete_unknown(client: ollama.Client) -> None:
    for act in (lambda: client.copy("nope", "x"), lambda: client.delete("nope")):
        with pytest.raises(ollama.ResponseError, match="'nope' not found") as caught:
            act()
        assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="called") as caught:
        client.copy(MODEL, EMBEDDER)
    assert caught.value.status_code == 409


@requirement("P06", STORE, "names have no tag but `latest`: another is refused with a name that works")
def test_tags(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="call it second-v2"):
        client.copy(MODEL, "second:v2")


@requirement("P07", STORE, "`push` is refused: nothing leaves this machine")
def test_push(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="not sent anywhere") as caught:
        client.push(MODEL)
    assert caught.value.status_code == 403


@requirement("P08", STORE, "a key without the scope `manage` changes no model and no time in memory")
def test_the_scope(gateway: Gateway, client: ollama.Client, home: Path) -> None:
    made = catena(home, "keys", "add", "asker", "--scope", "ask")
    assert made.returncode == 0, made.stderr
    headers = {"authorization": f"Bearer {made.stdout.strip()}"}
    body: Any = {"source": MODEL, "destination": "third"}
    response = post(gateway, "copy", body, headers=headers)
    assert (response.status_code, "manage" in response.json()["error"]) == (403, True)
    response = post(gateway, "chat", {**ASK, "keep_alive": 0, "stream": False}, headers=headers)
    assert "keep_alive ignored" in response.headers["catena-warning"]
    assert "third:latest" not in names(client)


@requirement("M01", MAKING, "a model made from another takes its parameters, and a request's own win over them")
def test_parameters(client: ollama.Client) -> None:
    client.create("short", from_=MODEL, parameters={"num_predict": 2, "temperature": 0, "stop": ["zzz"]})
    assert client.chat("short", ASK["messages"]).eval_count == 2
    assert client.chat("short", ASK["messages"], options={"num_predict": 4}).eval_count == 4
    assert "num_predict" in (client.show("short").parameters or "")
    assert client.show("short").details.parent_model == MODEL  # type: ignore[union-attr]


@requirement("M02", MAKING, "its system message holds for requests without one, in every protocol")
def test_system(client: ollama.Client, gateway: Gateway) -> None:
    client.create("brief", from_=MODEL, system="Answer in one word.")
    system = {"role": "system", "content": "Answer in one word."}
    expected = client.chat(**{**ASK, "messages": [system, *ASK["messages"]]}).message.content
    assert client.chat(**{**ASK, "model": "brief"}).message.content == expected
    other = {**system, "content": "You are a pirate."}
    own = {**ASK, "messages": [other, *ASK["messages"]]}
    assert client.chat(**{**own, "model": "brief"}).message.content == client.chat(**own).message.content
    body = {"model": "brief", "messages": ASK["messages"], "temperature": 0, "seed": 1, "max_tokens": 12}
    answer = httpx2.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=LIMIT_S).json()
    assert answer["choices"][0]["message"]["content"] == expected


@requirement("M03", MAKING, "its messages come before those of a request")
def test_messages(client: ollama.Client) -> None:
    turns = [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A"}]
    client.create("primed", from_=MODEL, messages=turns)
    with_turns = client.chat(**{**ASK, "messages": [*turns, *ASK["messages"]]})
    answer = client.chat(**{**ASK, "model": "primed"})
    assert answer.prompt_eval_count == with_turns.prompt_eval_count
    assert answer.message.content == with_turns.message.content


@requirement("M04", MAKING, "its chat template, in Jinja, is used; a Go template is refused")
def test_templates(client: ollama.Client) -> None:
    client.create("bare", from_=MODEL, template="{{ messages[-1].content }}")
    raw = client.generate(MODEL, "One, two, three,", raw=True, options=EXACT).response
    assert client.generate("bare", "One, two, three,", options=EXACT).response == raw
    with pytest.raises(ollama.ResponseError, match="Go template") as caught:
        client.create("go", from_=MODEL, template="{{ .System }}{{ .Prompt }}")
    assert caught.value.status_code == 400


@requirement("M05", MAKING, "its making streams its steps to `success`")
def test_steps(client: ollama.Client) -> None:
    told = [part.status or "" for part in client.create("stepped", from_=MODEL, system="x", stream=True)]
    assert told[0] == "reading model metadata"
    assert any(status.startswith("using already created layer sha256:b179c952") for status in told)
    assert told[-2:] == ["writing manifest", "success"]


@requirement("M06", MAKING, "the receipt of its answer leads to the manifest of its parent")
def test_the_parent(client: ollama.Client, gateway: Gateway) -> None:
    client.create("traced", from_=MODEL, system="x")
    parent = next(one.digest for one in client.list().models if one.model == f"{MODEL}:latest")
    receipt = post(gateway, "chat", {**ASK, "model": "traced", "stream": False}).headers["catena-receipt"]
    built = gateway.get(f"/catena/v1/receipts/{receipt}/trace")["links"][0]
    assert built["facts"]["made from"] == f"sha256:{parent}"


@requirement("M07", MAKING, "a file sent with `create_blob` becomes a model")
def test_a_sent_file(client: ollama.Client, gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(Gguf().file())
    digest = client.create_blob(path)
    assert digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert httpx2.head(f"{gateway.url}/api/blobs/{digest}").status_code == 200
    assert client.create("sent", files={"tiny.gguf": digest}).status == "success"
    shown = client.show("sent")
    assert shown.modelinfo is not None
    assert (shown.modelinfo["llama.context_length"], shown.license) == (128, "apache-2.0")


@requirement("M08", MAKING, "a file with another digest than its address is refused and not kept")
def test_a_wrong_digest(gateway: Gateway) -> None:
    digest = "sha256:" + "0" * 64
    response = httpx2.post(f"{gateway.url}/api/blobs/{digest}", content=b"something else")
    assert (response.status_code, response.json()["code"]) == (400, "integrity")
    assert httpx2.head(f"{gateway.url}/api/blobs/{digest}").status_code == 404


@requirement("M09", MAKING, "what cannot be done is refused: quantising, an unknown parent, a name with a slash")
def test_refusals(client: ollama.Client) -> None:
    for change, words in (
        ({"quantize": "q4_K_M"}, "quantize is not supported"),
        ({"from_": "nope"}, "'nope' not found"),
        ({"model": "a/b"}, "cannot name a model"),
    ):
        with pytest.raises(ollama.ResponseError, match=words):
            client.create(**{"model": "made", "from_": MODEL, **change})


@requirement("M10", MAKING, "an adapter that was sent is stored as a model of its own, and changes what is answered")
def test_an_adapter(client: ollama.Client, tmp_path: Path) -> None:
    digest = client.create_blob(write_adapter(tmp_path / "lora.gguf", seed=1))
    client.create("tuned", from_=MODEL, adapters={"lora.gguf": digest})
    assert "ADAPTER tuned-adapter-1" in (client.show("tuned").modelfile or "")
    assert "tuned-adapter-1:latest" not in names(client)
    assert client.chat(**{**ASK, "model": "tuned"}).message.content != client.chat(**ASK).message.content
    client.delete("tuned-adapter-1")
    with pytest.raises(ollama.ResponseError, match="tuned-adapter-1"):
        client.chat(**{**ASK, "model": "tuned"})
