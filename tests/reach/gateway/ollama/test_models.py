"""What is stored and loaded, the making of models, who may, and files that are sent: over a real store."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.reach.gateway.conftest import MODEL
from tests.reach.gateway.ollama.conftest import ASK, Loaded, OllamaDoor, lines, open_door
from tests.store.conftest import Gguf

from catena.core.errors import CancelledError, NetworkError
from catena.core.messages import Message, Sampling, Text
from catena.reach.gateway.protocols.ollama import fields, models, reading, routes
from catena.reach.presets import Preset
from catena.store import Progress, Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(store: Store) -> OllamaDoor:
    return open_door(store)


async def test_models_are_listed_with_their_tag(door: OllamaDoor, weights: Path) -> None:
    row = door.store.pull(str(weights), name="little").row
    listed = (await door.get("/api/tags")).json["models"]
    assert [one["name"] for one in listed] == ["tiny:latest", "little:latest"]
    little = listed[1]
    assert (little["model"], little["digest"]) == ("little:latest", row.digest.removeprefix("sha256:"))
    assert little["size"] == row.size_bytes
    assert little["details"] == {
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "356", "quantization_level": "Q8_0",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["little", "little:latest"])
async def test_a_model_is_shown_with_what_its_header_says(door: OllamaDoor, weights: Path, name: str) -> None:
    door.store.pull(str(weights), name="little")
    shown = (await door.post("/api/show", {"model": name})).json
    assert shown["template"] == "{{ messages }}"
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["license"] == "apache-2.0"
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["llama.context_length"] == 128
    assert shown["parameters"] == ""
    assert shown["modelfile"].splitlines()[1] == "FROM little"
    assert "system" not in shown
    assert (await door.post("/api/show", {"name": "little"})).json["details"] == shown["details"]


async def test_a_model_answers_to_its_alias_and_digest(door: OllamaDoor) -> None:
    for name in (MODEL.digest, MODEL.digest.removeprefix("sha256:")):
        assert (await door.post("/api/show", {"model": name})).status == 200
    response = await door.post("/api/show", {"model": "tiny", "verbose": True})
    assert "verbose ignored" in response.headers["catena-warning"]


@pytest.mark.parametrize(
    ("task", "template", "expected"),
    [
        ("generate", "", ["completion"]),
        ("generate", "x", ["completion", "tools"]),
        ("generate", "<think>", ["completion", "tools", "thinking"]),
        ("embed", "", ["embedding"]),
        ("predict", "", []),
    ],
)
def test_capabilities_are_what_can_be_done_here(task: Any, template: str, expected: list[str]) -> None:
    manifest = msgspec.structs.replace(MODEL.manifest, task=task)
    assert models.capabilities(manifest, template) == expected


def test_a_model_with_a_projector_for_pictures_sees() -> None:
    seeing, hearing = [
        msgspec.structs.replace(MODEL.manifest, facts={"modalities": modalities})
        for modalities in ("text image", "text audio")
    ]
    assert models.capabilities(seeing, "") == ["completion", "vision"]
    assert models.capabilities(hearing, "") == ["completion"]


@pytest.mark.parametrize(("number", "text"), [(0, ""), (131, "131"), (134515008, "134.52M"), (7241732096, "7.2B")])
def test_sizes_are_said_in_a_persons_words(number: int, text: str) -> None:
    assert models.size_text(number) == text


async def test_loaded_models_say_when_they_go(door: OllamaDoor) -> None:
    door.sessions.rows = [Loaded("tiny", MODEL.digest), Loaded("other", "sha256:00", unload_in_s=None)]
    first, second = (await door.get("/api/ps")).json["models"]
    assert (first["name"], first["size"], first["size_vram"], first["context_length"]) == ("tiny:latest", 1000, 0, 64)
    left = datetime.fromisoformat(first["expires_at"]) - datetime.now(UTC)
    assert 295 < left.total_seconds() <= 301
    assert datetime.fromisoformat(second["expires_at"]).year > 2100


async def test_the_version_is_one_that_front_ends_accept(door: OllamaDoor) -> None:
    version = (await door.get("/api/version")).json
    assert tuple(map(int, version["version"].split("."))) >= (0, 6, 4)
    assert version["catena"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0), ("0", 0.0), ("0s", 0.0), (-1, None), ("-1", None), ("-5m", None), (90, 90.0), ("90", 90.0),
        ("5m", 300.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("300ms", 0.3), ("2us", 2e-6),
    ],
)  # fmt: skip
async def test_keep_alive_says_how_long_a_model_stays(value: Any, seconds: float | None) -> None:
    door = open_door(None)
    await door.post("/api/chat", {**ASK, "keep_alive": value})
    await door.post("/api/chat", {**ASK, "keep_alive": value, "stream": False})
    await door.post("/api/embed", {"model": "tiny", "input": "x", "keep_alive": value})
    assert door.sessions.kept == [(MODEL.digest, seconds if seconds is None else pytest.approx(seconds))] * 3


@pytest.mark.parametrize("text", ["", "m", "5x", "5 m", "1e400", "nan", "9" * 400, "--5m", "5m-"])
def test_what_is_no_duration_is_refused_or_endless(text: str) -> None:
    if text in ("1e400", "nan", "9" * 400):
        assert reading._seconds(text) == -1
        return
    with pytest.raises(Exception, match="keep_alive must be"):
        reading._seconds(text)


async def test_a_request_without_a_question_loads_or_unloads() -> None:
    door = open_door(None)
    chat = (await door.post("/api/chat", {"model": "tiny", "messages": []})).json
    assert (chat["done"], chat["done_reason"], chat["message"]["content"]) == (True, "load", "")
    prompt = (await door.post("/api/generate", {"model": "tiny", "keep_alive": "10m"})).json
    assert (prompt["done_reason"], prompt["response"]) == ("load", "")
    assert door.sessions.loads == ["tiny", "tiny"]
    assert (await door.post("/api/generate", {"model": "tiny", "keep_alive": 0})).json["done_reason"] == "unload"
    assert door.sessions.kept == [(MODEL.digest, 600.0), (MODEL.digest, 0)]
    assert (await door.post("/api/generate", {"model": "nope", "keep_alive": 0})).status == 404
    assert door.script.asked == []


async def test_beyond_the_local_user_management_takes_a_scope(door: OllamaDoor) -> None:
    _, asking = door.access.add("asking", ["ask"])
    _, managing = door.access.add("managing", ["ask", "manage"])
    key = {"authorization": f"Bearer {asking}"}
    for method, path in (("POST", "pull"), ("POST", "copy"), ("DELETE", "delete"), ("POST", "create"),
                         ("POST", "blobs/sha256:00"), ("GET", "blobs/sha256:00")):  # fmt: skip
        response = await door.ask(method, f"/api/{path}", {"model": "tiny"}, headers=key)
        assert response.status == 403
        assert "manage" in response.error
    response = await door.post("/api/chat", {**ASK, "keep_alive": 0}, headers=key)
    assert "keep_alive ignored" in response.headers["catena-warning"]
    assert (await door.post("/api/generate", {"model": "tiny", "keep_alive": 0}, headers=key)).status == 403
    assert door.sessions.kept == []
    response = await door.post("/api/pull", {"model": "/etc/passwd"}, headers={"x-api-key": managing})
    assert (response.status, "own user" in response.error) == (403, True)
    response = await door.post("/api/pull", {"model": "file:/etc/passwd"}, headers={"x-api-key": managing})
    assert response.status == 403


async def test_a_file_is_pulled_with_its_progress(door: OllamaDoor, weights: Path) -> None:
    response = await door.post("/api/pull", {"model": str(weights)})
    assert response.headers["content-type"] == "application/x-ndjson"
    told = [line["status"] for line in lines(response.body)]
    assert told[0] == "pulling manifest"
    assert told[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert "little" in [row.name for row in door.store.models()]
    assert (await door.post("/api/pull", {"name": str(weights), "stream": False})).json == {"status": "success"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pull_that_fails_at_once_is_a_status(door: OllamaDoor, stream: bool) -> None:
    response = await door.post("/api/pull", {"model": "nonsense", "stream": stream})
    assert (response.status, "model 'nonsense' not found" in response.error) == (404, True)


async def test_a_pull_that_breaks_off_says_so_in_its_last_line(
    door: OllamaDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(source: str, *, name: str | None = None, progress: Callable[[Progress], None]) -> None:
        for done in range(3):
            progress(Progress("download", "a wheel", done, 3))
            threading.Event().wait(0.6)
        raise NetworkError("the connection broke off")

    monkeypatch.setattr(door.store, "pull", pull)
    *told, last = lines((await door.post("/api/pull", {"model": "smollm2-135m-instruct"})).body)
    assert last["error"] == "the connection broke off"
    bar = [line for line in told if line["status"] == "pulling b179c9523d0e"]
    assert [(line["completed"], line["total"], line["digest"][:13]) for line in bar] == [
        (done, 3, "sha256:b179c9") for done in (0, 1, 2)
    ]


async def test_a_client_that_leaves_stops_a_pull(door: OllamaDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def pull(source: str, *, name: str | None = None, progress: Callable[[Progress], None]) -> None:
        try:
            while not ended.wait(0.02):
                progress(Progress("download", "a wheel", 1, None))
        except CancelledError:
            ended.set()
            raise

    monkeypatch.setattr(door.store, "pull", pull)
    await door.post("/api/pull", {"model": "smollm2-135m-instruct"}, leave_after=1)
    assert ended.wait(5)


async def test_a_pull_may_take_longer_than_a_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    door = open_door(store, request_timeout_s=0.2)
    monkeypatch.setattr(door.store, "pull", lambda *_, **__: threading.Event().wait(0.6))
    response = await door.post("/api/pull", {"model": "smollm2-135m-instruct", "stream": False})
    assert response.json == {"status": "success"}


async def test_a_copy_is_another_name_and_a_removed_one_is_gone(door: OllamaDoor, weights: Path) -> None:
    door.store.pull(str(weights), name="little")
    copied = await door.post("/api/copy", {"source": "little:latest", "destination": "twin:latest"})
    assert (copied.status, copied.body) == (200, b"")
    assert [row.name for row in door.store.models()] == ["little", "twin"]
    removed = await door.ask("DELETE", "/api/delete", {"model": "little"})
    assert removed.status == 200
    assert "catena gc" in removed.headers["catena-warning"]
    assert [row.name for row in door.store.models()] == ["twin"]
    assert door.sessions.kept[0][1] == 0
    assert (await door.ask("DELETE", "/api/delete", {"name": "little"})).status == 404
    assert (await door.post("/api/copy", {"source": "little", "destination": "x"})).status == 404
    response = await door.post("/api/copy", {"source": "twin", "destination": "twin:v2"})
    assert (response.status, response.error) == (400, "names here have no tag but latest (call it twin-v2)")


async def test_a_model_is_derived_and_shown_with_its_preset(door: OllamaDoor, weights: Path) -> None:
    base = door.store.pull(str(weights), name="little").row
    response = await door.post("/api/create", {
        "model": "poet:latest", "from": "little", "system": "Write verses.", "license": "MIT\nand more",
        "parameters": {"temperature": 0.5, "num_predict": 9, "stop": ["a", "b"], "num_ctx": 4096, "num_gpu": 1},
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
        "template": "{{ messages[0].content }}",
    })  # fmt: skip
    told = [line["status"] for line in lines(response.body)]
    assert told[0] == "reading model metadata"
    assert {"creating system layer", "creating template layer"} <= set(told)
    assert f"using already created layer {base.manifest.files[0].digest}" in told
    assert told[-2:] == ["writing manifest", "success"]
    for word in ("num_ctx ignored", "num_gpu ignored", "license kept"):
        assert word in response.headers["catena-warning"]
    manifest = door.store.resolve("poet").manifest
    assert manifest.provenance.parents == (base.digest,)
    assert manifest.licence == "MIT"
    assert Preset.of(manifest) == Preset(
        Sampling(temperature=0.5, max_tokens=9, stop=("a", "b")),
        "Write verses.",
        (Message("user", (Text("hi"),)), Message("assistant", (Text("ho"),))),
    )
    shown = (await door.post("/api/show", {"model": "poet"})).json
    assert shown["system"] == "Write verses."
    assert shown["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert [line.split() for line in shown["parameters"].splitlines()] == [
        ["num_predict", "9"], ["temperature", "0.5"], ["stop", '"a"'], ["stop", '"b"'],
    ]  # fmt: skip
    assert shown["template"] == "{{ messages[0].content }}"
    assert shown["details"]["parent_model"] == "little"
    for line in ('SYSTEM """Write verses."""', "PARAMETER temperature 0.5", 'MESSAGE assistant """ho"""'):
        assert line in shown["modelfile"]


async def send(door: OllamaDoor, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    pieces = [data[start : start + 700] for start in range(0, len(data), 700)]
    response = await door.ask("POST", f"/api/blobs/{digest}", pieces=pieces)
    assert response.status in (200, 201)
    return digest


async def test_a_sent_file_becomes_a_model(door: OllamaDoor, gguf: Gguf) -> None:
    data = gguf.file()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (await door.ask("HEAD", f"/api/blobs/{digest}")).status == 404
    assert (await door.ask("POST", f"/api/blobs/{digest}", pieces=[data[:99], data[99:]])).status == 201
    assert (await door.ask("HEAD", f"/api/blobs/{digest}")).status == 200
    assert (await door.ask("POST", f"/api/blobs/{digest.replace(':', '-')}", data)).status == 200
    body = {"model": "sent", "files": {"little.gguf": digest}, "stream": False}
    assert (await door.post("/api/create", body)).json == {"status": "success"}
    assert door.store.resolve("sent").manifest.provenance.source == "upload:little.gguf"
    body |= {"model": "sent-brief", "system": "Be brief."}
    assert (await door.post("/api/create", body)).json == {"status": "success"}
    manifest = door.store.resolve("sent-brief").manifest
    assert Preset.of(manifest).system == "Be brief."
    assert door.store.manifest(manifest.provenance.parents[0]).provenance.source_digest == digest


async def test_a_sent_file_with_another_digest_or_none_is_refused(door: OllamaDoor) -> None:
    digest = "sha256:" + "0" * 64
    response = await door.ask("POST", f"/api/blobs/{digest}", b"something else")
    assert (response.status, response.json["code"]) == (400, "integrity")
    assert (await door.ask("HEAD", f"/api/blobs/{digest}")).status == 404
    for name in ("sha256:00", "..%2f..%2fetc%2fpasswd", "x"):
        assert (await door.ask("POST", f"/api/blobs/{name}", b"x")).status == 400


async def test_an_upload_whose_client_leaves_keeps_nothing(door: OllamaDoor, tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(b'all of it').hexdigest()}"
    # The body ends before what its head promised: the server then tells that the client is gone.
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": f"/api/blobs/{digest}", "query_string": b"",
        "headers": [(b"host", b"localhost")], "server": ("127.0.0.1", 7411),
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": b"all", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send_nothing(message: Any) -> None:
        raise AssertionError(message)

    await door.app(scope, receive, send_nothing)
    assert not door.store.has(digest)
    drafts = [path for path in (tmp_path / "blobs" / "drafts").rglob("*") if path.is_file() and path.name != "lock"]
    assert drafts == []


async def test_an_adapter_is_kept_as_a_model_and_named_as_a_parent(door: OllamaDoor, gguf: Gguf, weights: Path) -> None:
    base = door.store.pull(str(weights), name="little").row
    lora = gguf.with_entries(
        ("general.type", 8, "adapter"), ("adapter.type", 8, "lora"), ("adapter.lora.alpha", 6, 16.0)
    )
    digest = await send(door, lora)
    for name in ("tuned", "tuned-too"):
        body = {"model": name, "from": "little", "adapters": {"lora.gguf": digest}, "stream": False}
        assert (await door.post("/api/create", body)).json == {"status": "success"}
    adapter = door.store.resolve("tuned-adapter-1")
    assert adapter.manifest.task == "adapter"
    for name in ("tuned", "tuned-too"):
        manifest = door.store.resolve(name).manifest
        assert manifest.provenance.parents == (base.digest, adapter.digest)
        assert Preset.of(manifest).adapters == {"tuned-adapter-1": 1.0}
    assert "tuned-adapter-1:latest" not in [one["name"] for one in (await door.get("/api/tags")).json["models"]]
    digest = await send(door, gguf.file())
    body = {"model": "x", "from": "little", "adapters": {"whole.gguf": digest}, "stream": False}
    response = await door.post("/api/create", body)
    assert (response.status, "is no adapter" in response.error) == (400, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"from": None}, "name one of both"),
        ({"files": {"a": "sha256:" + "0" * 64}}, "name one of both"),
        ({"from": None, "files": {"a.gguf": "../x"}}, "needs a digest"),
        ({"from": None, "files": {"a.gguf": "sha256:" + "0" * 64}}, "was not sent"),
        ({"from": "nope"}, "model 'nope' not found"),
        ({"template": "{{ .System }} {{ .Prompt }}"}, "Go template"),
        ({"template": "{{- range .Messages }}{{ end }}"}, "Go template"),
        ({"parameters": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"quantize": "q4_K_M"}, "quantize is not supported"),
        ({"modelfile": "FROM x"}, "modelfile is not supported"),
        ({"model": "x:v1"}, "no tag but latest"),
        ({"model": "a/b"}, "cannot name a model"),
        ({"model": "default"}, "taken by Catena"),
        ({"messages": [{"role": "x"}]}, "role must be"),
    ],
)
async def test_what_cannot_be_made_is_refused(
    door: OllamaDoor, weights: Path, change: dict[str, Any], words: str
) -> None:
    door.store.pull(str(weights), name="little")
    response = await door.post("/api/create", {"model": "new", "from": "little", **change})
    assert response.status in (400, 404)
    assert words in response.error
    assert [row.name for row in door.store.models()] == ["little"]


async def test_a_name_is_not_taken_from_a_model_with_other_weights(door: OllamaDoor, weights: Path, gguf: Gguf) -> None:
    door.store.pull(str(weights), name="little")
    digest = await send(door, gguf.file())
    response = await door.post("/api/create", {"model": "little", "files": {"a.gguf": digest}})
    assert (response.status, response.json["code"]) == (409, "conflict")


async def test_nothing_is_pushed_and_other_addresses_answer_in_this_dialect(door: OllamaDoor) -> None:
    assert (await door.post("/api/push", {"model": "tiny"})).status == 403
    for method in ("GET", "POST", "PUT", "DELETE"):
        response = await door.ask(method, "/api/nothing/here")
        assert (response.status, response.json["code"]) == (404, "route_not_found")
        assert isinstance(response.error, str)


async def test_a_body_needs_no_media_type_except_from_a_page(door: OllamaDoor) -> None:
    raw = json.dumps(ASK).encode()
    for kind in ("application/x-www-form-urlencoded", "", "application/json; charset=utf-8"):
        assert (await door.post("/api/chat", raw, headers={"content-type": kind})).status == 200
    form = {"content-type": "application/x-www-form-urlencoded"}
    for page in ({"origin": "http://localhost:7411"}, {"sec-fetch-site": "cross-site"}):
        assert (await door.post("/api/chat", raw, headers={**form, **page})).status == 415
    assert (await door.post("/api/chat", raw, headers={"content-type": "text/plain"})).status == 415
    assert (await door.post("/api/chat", raw, headers={"content-encoding": "gzip"})).status == 415


def test_every_route_that_takes_parameters_has_its_table() -> None:
    taking = {
        f"{route.method} {route.pattern}"
        for route in routes
        if route.method in ("POST", "DELETE") and "{" not in route.pattern and route.pattern != "/api/push"
    }
    assert taking == set(fields.TABLES) - {"options"}
