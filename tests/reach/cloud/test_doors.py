"""End to end: the official client of each protocol → `catena up` → a test provider, and what is told afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx2
import numpy as np
import ollama
import openai
import psutil
import pytest
import tritonclient.http as triton
from tests.clients.conftest import Gateway, up
from tests.conftest import catena
from tests.providers.answers import Answer, Call
from tests.providers.policy import OPEN_POLICY
from tests.providers.server import Provider, provider

KEY = "sk-quite-secret-0123456789"
KINDS = ("openai", "anthropic", "ollama", "gemini", "open_inference")
GENERATING = KINDS[:4]
QUESTION: Any = [{"role": "user", "content": "Hi"}]


class World(NamedTuple):
    gateway: Gateway
    home: Path
    providers: dict[str, Provider]

    def say(self, kind: str, *answers: Answer) -> Provider:
        made = self.providers[kind]
        made.asked.clear()
        made.gone.clear()
        made.say(*answers)
        return made

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return catena(self.home, *words, FAR_KEY=KEY)


def settings(providers: dict[str, Provider]) -> str:
    """catena.toml with a provider of each kind, called after it."""
    text = ""
    for kind, made in providers.items():
        text += f'[[reach.providers]]\nname = "{kind}"\nkind = "{kind}"\nbase_url = "{made.url}"\nkey_env = "FAR_KEY"\n'
        text += 'models = ["big", "s*", "net"]\nprice_in = 1.0\nprice_out = 2.0\ncurrency = "EUR"\n'
    return text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("far") / "home"
    home.mkdir(mode=0o700)
    with ExitStack() as stack:
        providers = {kind: stack.enter_context(provider(kind)) for kind in KINDS}
        (home / "catena.toml").write_text(settings(providers))
        (home / "policy.toml").write_text(OPEN_POLICY)
        gateway = stack.enter_context(up(home, "--echo", FAR_KEY=KEY))
        yield World(gateway, home, providers)


@pytest.mark.parametrize("kind", GENERATING)
def test_openai_clients_reach_every_kind(world: World, kind: str) -> None:
    calls = (Call("c1", "look", ('{"a":', "1}")), Call("c2", "look", ('{"a":2}',)))
    made = world.say(kind, Answer(), Answer(text=(), calls=calls, finish="tool_calls"))
    with world.gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=f"{kind}/big", messages=QUESTION, max_tokens=9)
        answer = raw.parse()
        tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        with client.chat.completions.stream(model=f"{kind}/big", messages=QUESTION, tools=tools) as stream:
            streamed = stream.get_final_completion().choices[0]
    assert answer.choices[0].message.content == "Hello world" and answer.usage.completion_tokens == 2
    assert raw.headers["catena-receipt"].startswith("rcpt_")
    found = [json.loads(call.function.arguments) for call in streamed.message.tool_calls or ()]
    assert found == [{"a": 1}, {"a": 2}] and streamed.finish_reason == "tool_calls"
    assert len(made.asked) == 2


def test_anthropic_clients_reach_a_remote_model(world: World) -> None:
    world.say("openai", Answer(reasoning=("hm",), text=("Hello", " there"), finish="length", completion_tokens=5))
    with anthropic.Anthropic(base_url=world.gateway.url, api_key="any", max_retries=0) as client:
        with client.messages.stream(
            model="openai/big", max_tokens=5, messages=QUESTION, extra_body={"top_k": 4}
        ) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert "top_k ignored" in stream.response.headers["catena-warning"]
    assert text == "Hello there" and message.stop_reason == "max_tokens"


def test_ollama_clients_reach_a_remote_model(world: World) -> None:
    made = world.say("anthropic", Answer())
    with ollama.Client(world.gateway.url) as client:
        parts = list(client.chat("anthropic/big", QUESTION, stream=True, options={"num_predict": 7}))
        names = {row.model for row in client.list().models}
    assert "".join(part.message.content or "" for part in parts) == "Hello world" and parts[-1].done
    assert made.asked[0].json["model"] == "big" and "openai/big:latest" in names


def test_triton_clients_reach_a_remote_predictor(world: World) -> None:
    made = world.say("open_inference", Answer())
    array = triton.InferInput("x", [1, 2], "FP32")
    array.set_data_from_numpy(np.array([[1.0, 2.0]], np.float32))
    with triton.InferenceServerClient(world.gateway.url.removeprefix("http://")) as client:
        result = client.infer("open_inference/net", [array])
    assert result.get_response()["outputs"] and made.asked[0].path == "/v2/models/net/infer"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": QUESTION, "seed": 4}),
        ("/v1/responses", {"input": "Hi", "store": False, "seed": 4}),
        ("/api/chat", {"messages": QUESTION, "options": {"seed": 4}}),
        ("/v2/models/anthropic/big/generate", {"text_input": "Hi", "parameters": {"seed": 4}}),
    ],
)
def test_every_protocol_names_what_was_lost(world: World, path: str, body: dict[str, Any], streams: bool) -> None:
    world.say("anthropic", Answer())
    if path.startswith("/v2"):
        path += "_stream" if streams else ""
    else:
        body = {**body, "model": "anthropic/big", "stream": streams}
    answer = httpx2.post(world.gateway.url + path, json=body)
    assert answer.status_code == 200, answer.text
    assert "seed ignored: the provider's dialect cannot carry it" in answer.headers["catena-warning"]


def test_a_refused_key_of_ours_does_not_look_like_the_callers(world: World) -> None:
    world.say("openai", Answer(status=401, code="invalid_api_key", message=f"Incorrect API key: {KEY}"))
    with world.gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="openai/big", messages=QUESTION)
    assert caught.value.status_code == 502 and KEY not in str(caught.value)
    assert "whoever runs the gateway" in caught.value.body["hint"]  # type: ignore[index]


def test_a_busy_provider_is_passed_on_with_its_time(world: World) -> None:
    world.say("openai", Answer(status=429, headers={"retry-after": "7"}))
    with world.gateway.client() as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="openai/big", messages=QUESTION)
    assert caught.value.response.headers["retry-after"] == "7"


def test_a_cut_stream_is_no_clean_end_for_the_client(world: World) -> None:
    world.say("openai", Answer(text=("a", "b", "c"), cut_after=3))
    with world.gateway.client() as client, pytest.raises(openai.APIError):
        for _ in client.chat.completions.create(model="openai/big", messages=QUESTION, stream=True):
            pass


def test_a_client_that_leaves_ends_the_remote_answer(world: World) -> None:
    made = world.say("openai", Answer(text=("x",) * 2000, between_s=0.02))
    with world.gateway.client() as client:
        stream = client.chat.completions.create(model="openai/big", messages=QUESTION, stream=True)
        next(iter(stream))
        stream.close()
    assert made.gone.wait(5) and made.num_sent < 200


def test_trace_and_audit_tell_the_truth_of_a_remote_answer(world: World) -> None:
    made = world.say("openai", Answer())
    with world.gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="openai/big", messages=QUESTION)
    receipt = raw.headers["catena-receipt"]
    links = {link["stage"]: link for link in json.loads(world.cli("trace", receipt, "--json").stdout)["links"]}
    assert [links[stage]["state"] for stage in ("built", "stored", "run", "reached", "watched")] == [
        "not_recorded",
        "not_recorded",
        "not_recorded",
        "verified",
        "verified",
    ]
    assert (
        links["reached"]["facts"]["decision"] == "remote" and links["reached"]["facts"]["rule"] == "policy:everything"
    )
    assert links["run"]["facts"]["left this machine"].startswith(f"{len(made.asked[0].body)} bytes")
    shown = world.cli("audit", "show", receipt).stdout
    assert '"outcome":"remote"' in shown and f'"host":"127.0.0.1:{made.port}"' in shown and '"currency":"EUR"' in shown
    assert world.cli("audit", "verify").returncode == 0


def test_the_key_is_nowhere_to_be_seen(world: World) -> None:
    shown = world.cli("config", "show").stdout
    assert '"key_env":"FAR_KEY"' in shown and KEY not in shown
    files = [path for path in world.home.rglob("*") if path.is_file()]
    assert files and not [path for path in files if KEY.encode() in path.read_bytes()]


def test_only_models_that_settings_name_singly_are_listed(world: World) -> None:
    with world.gateway.client() as client:
        names = {model.id for model in client.models.list().data}
        assert client.models.retrieve("openai/big").id == "openai/big"
    assert {f"{kind}/{name}" for kind in KINDS for name in ("big", "net")} <= names
    assert not any("*" in name or name.endswith("small") for name in names)
    rows = httpx2.post(f"{world.gateway.url}/v2/repository/index", json={}).json()
    assert "open_inference/net" in {row["name"] for row in rows}


def test_providers_list_their_models_when_they_are_asked_to(world: World) -> None:
    for kind in KINDS:
        world.say(kind, Answer(models=("big", "other", "small")))
    world.say("gemini", Answer(status=500))
    done = world.cli("models", "--remote", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1 and list(told["failed"]) == ["gemini"]
    names = [row["name"] for row in told["models"]]
    assert [name for name in names if name.startswith("openai/")] == ["openai/big", "openai/small"]


def test_a_remote_model_can_be_asked_from_the_command_line_and_the_list_read_by_people(world: World) -> None:
    world.say("openai", Answer(text=("It", " works")))
    assert "It works" in world.cli("ask", "--model", "openai/big", "Hi").stdout
    for kind in KINDS:
        world.say(kind, Answer(models=("big",)))
    listed = world.cli("models", "--remote")
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert lines == [[f"{kind}/big", kind, f"127.0.0.1:{world.providers[kind].port}"] for kind in KINDS]


def test_without_providers_there_is_nobody_to_ask_for_a_list(tmp_path: Path) -> None:
    done = catena(tmp_path, "models", "--remote")
    assert done.returncode == 0 and not done.stdout and "no providers are configured" in done.stderr


def test_without_providers_nothing_but_the_listener_is_open(tmp_path: Path) -> None:
    with up(tmp_path, "--echo") as running, running.client() as client:
        client.chat.completions.create(model="echo", messages=QUESTION)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="openai/big", messages=QUESTION)
        process = psutil.Process(running.process.pid)
        sockets = process.net_connections("inet")
        assert sockets and all(one.laddr.ip == "127.0.0.1" for one in sockets)
        port = int(running.url.rpartition(":")[2])
        assert all(one.laddr.port == port for one in sockets), "every socket is the listener or somebody who came in"
        assert not any("aiohttp" in one.path for one in process.memory_maps())


def test_a_wrong_provider_stops_the_start_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "catena.toml").write_text('[[reach.providers]]\nname = "far"\nkind = "opnai"\n')
    done = catena(tmp_path, "up", "--port", "0")
    assert done.returncode == 78 and "did you mean 'openai'?" in done.stderr


def test_a_provider_without_the_client_installed_stops_the_start_and_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "catena.toml").write_text('[[reach.providers]]\nname = "far"\nservice = "deepseek"\n')
    code = "import sys; sys.modules['aiohttp'] = None; from catena.cli import main; main(['up', '--port', '0'])"
    environ = {**os.environ, "CATENA_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and not done.stdout
    assert "aiohttp is not installed" in done.stderr and "pip install 'catena[cloud]'" in done.stderr
