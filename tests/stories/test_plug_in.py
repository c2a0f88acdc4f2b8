"""A stranger's package adds an engine, a protocol, a provider's dialect and a verb, one file each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import catena
from tests.providers.policy import OPEN_POLICY
from tests.weights import write_gguf

STARTING_S = 60

ENGINE = '''
"""An engine that says loudly what it was asked."""

from catena.core.messages import Delta, Finished, Timings, Usage, message_text
from catena.core.protocols import SessionFacts


class Session:
    facts = SessionFacts("aloud 1", "cpu", 4, 128, 0)

    async def generate(self, request):
        text = message_text(request.messages[-1]).upper()
        yield Delta(text=text)
        yield Finished(0, "stop")
        yield Usage(1, 1)
        yield Timings()

    async def close(self):
        pass


class Engine:
    def accepts(self, model):
        return None if model.manifest.facts.get("title") == "Loud" else "aloud runs loud models only"

    async def load(self, model, placement):
        return Session()
'''

PROTOCOL = '''
"""A protocol of plain text: POST /plain/{model} with a question, and the answer comes back as it is."""

from catena.core.messages import ChatRequest, Message, Text
from catena.reach.gateway import answering
from catena.reach.gateway.routing import Dialect, Route
from catena.reach.ticket import Caller

DIALECT = Dialect(lambda failure: f"{failure.code}: {failure.message}".encode(), lambda _: b"", "text/plain")


async def ask(exchange):
    exchange.caller = Caller(exchange.caller.key, "plain")
    question = (await exchange.body()).decode()
    request = ChatRequest(exchange.params["model"], (Message("user", (Text(question),)),))
    _, reply = await answering.whole(exchange, request)
    await exchange.answer(200, reply.choices[0].text.encode(), content_type="text/plain")


routes = (Route("POST", "/plain/{model}", ask, "ask", DIALECT),)
'''

DIALECT = '''
"""How a shouting server is spoken to: a line in, lines out, and a full stop at the end."""

from catena.core.errors import NetworkError, ProviderError
from catena.core.messages import Delta, Finished, Usage, message_text
from catena.run.dialects.dialect import Outgoing


class Incoming:
    is_whole = False

    def read(self, event, data):
        if data == b".":
            self.is_whole = True
            return [Finished(0, "stop"), Usage(1, 1)]
        return [Delta(text=data.decode())]

    def end(self):
        if not self.is_whole:
            raise NetworkError("the shout broke off")
        return []


class Shout:
    name, framing = "shout", "ndjson"

    def headers(self, key):
        return {}

    def generate(self, request, model):
        return Outgoing("/say", f"{model}: {message_text(request.messages[-1])}".encode())

    def incoming(self, request):
        return Incoming()

    def error(self, status, headers, body):
        return ProviderError(f"the shouter is hoarse: {status}")


dialect = Shout()
'''

VERB = """
import click


@click.command(name="wave")
def command():
    click.echo("hello from outside")
"""

POINTS = """[catena.engines]
aloud = stranger_engine:Engine
[catena.protocols]
plain = stranger_protocol:routes
[catena.dialects]
shout = stranger_dialect:dialect
[catena.verbs]
wave = stranger_verb:command
"""


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A folder as pip leaves it when it has installed somebody's package."""
    folder = tmp_path / "site"
    info = folder / "stranger-1.0.dist-info"
    info.mkdir(parents=True)
    for name, text in (("engine", ENGINE), ("protocol", PROTOCOL), ("dialect", DIALECT), ("verb", VERB)):
        (folder / f"stranger_{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    return folder


class Shouter(BaseHTTPRequestHandler):
    """Answers POST /say with each word in capitals, a line each, and a full stop."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        body = "".join(f"{word.upper()}\n" for word in asked.split()) + ".\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def shouter() -> Iterator[str]:
    """The address of a server that speaks the stranger's dialect."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Shouter) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def gateway(tmp_path: Path, stranger: Path, shouter: str) -> Iterator[str]:
    """The address of a gateway that runs beside the stranger's package, with one loud model and one loud provider."""
    home = tmp_path / "home"
    weights = write_gguf(tmp_path / "loud.gguf", **{"general.name": "Loud"})
    assert catena(home, "pull", str(weights), "--name", "loud").returncode == 0
    provider = f'[[reach.providers]]\nname = "far"\nkind = "shout"\nbase_url = "{shouter}"\n'
    (home / "catena.toml").write_text(provider)
    (home / "policy.toml").write_text(OPEN_POLICY)
    environ = {**os.environ, "CATENA_HOME": str(home), "PYTHONPATH": str(stranger)}
    process = subprocess.Popen(
        [sys.executable, "-m", "catena", "up", "--port", "0"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("ready ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=STARTING_S)


def post(url: str, body: bytes, content_type: str = "application/json") -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, body, {"content-type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=STARTING_S) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_an_engine_of_one_file_answers_in_our_protocol(gateway: str) -> None:
    body = json.dumps({"model": "loud", "messages": [{"role": "user", "content": "be heard"}]}).encode()
    status, answer, headers = post(f"{gateway}/v1/chat/completions", body)
    assert status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"] == "BE HEARD"
    receipt = headers["catena-receipt"]
    with urllib.request.urlopen(f"{gateway}/catena/v1/receipts/{receipt}", timeout=STARTING_S) as shown:
        assert json.loads(shown.read())["closed"]["engine"] == "aloud 1"


def test_a_protocol_of_one_file_asks_through_the_same_router(gateway: str) -> None:
    status, answer, headers = post(f"{gateway}/plain/loud", b"be heard", "text/plain")
    assert (status, answer) == (200, b"BE HEARD")
    assert headers["catena-receipt"].startswith("rcpt_")
    status, answer, _ = post(f"{gateway}/plain/nobody", b"hello", "text/plain")
    assert status == 404 and answer.startswith(b"not_found: ")


def test_a_providers_dialect_of_one_file_reaches_a_server_that_speaks_it(gateway: str) -> None:
    body = json.dumps({"model": "far/away", "messages": [{"role": "user", "content": "be heard"}]}).encode()
    status, answer, headers = post(f"{gateway}/v1/chat/completions", body)
    assert status == 200, answer
    assert json.loads(answer)["choices"][0]["message"]["content"] == "AWAY:BEHEARD"
    assert headers["catena-receipt"].startswith("rcpt_")


def test_a_verb_of_one_file_is_listed_and_run(tmp_path: Path, stranger: Path) -> None:
    assert catena(tmp_path / "home", "wave", PYTHONPATH=str(stranger)).stdout == "hello from outside\n"
    assert "wave" in catena(tmp_path / "home", "--help", PYTHONPATH=str(stranger)).stdout


def test_who_can_run_a_model_is_also_asked_of_a_strangers_engine(tmp_path: Path, stranger: Path) -> None:
    weights = write_gguf(tmp_path / "tiny.gguf")
    done = catena(tmp_path / "home", "serve-model", str(weights), "--name", "tiny", PYTHONPATH=str(stranger))
    assert "aloud runs loud models only" in done.stdout
