"""One gateway for the whole matrix, over a real state folder, with a provider of every dialect on loopback."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio.from_thread
import msgspec
import pytest
from tests.matrix.doors import DOORS, Body
from tests.matrix.ends import ENDS
from tests.matrix.wish import Seen, Wish
from tests.providers.policy import OPEN_POLICY
from tests.providers.server import Provider, provider

from catena.cli.chain import open_chain
from catena.reach.gateway.server import listening

WAIT_S = 10.0


class Matrix:
    """The running gateway and its providers by dialect."""

    def __init__(self, host: str, port: int, providers: dict[str, Provider]) -> None:
        self.host = host
        self.port = port
        self.providers = providers

    def open(self, door: str, body: Body) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request; the head of its answer is there, its body is to be read."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT_S)
        path = DOORS[door].path or f"/v2/models/{quote(body.pop('model'), safe='')}/generate_stream"
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
        connection.request("POST", path, msgspec.json.encode(body), headers)
        return connection, connection.getresponse()

    def send(self, door: str, body: Body) -> Seen:
        """Send a request and read its whole answer, as far as it came."""
        connection, response = self.open(door, body)
        seen = Seen(response.status, {name.lower(): value for name, value in response.headers.items()})
        with closing(connection), response:
            try:
                raw = response.read()
            except http.client.IncompleteRead as cut:
                raw = cut.partial
        if seen.status == 200:
            DOORS[door].read(seen, raw)
        else:
            seen.error = raw.decode()
        return seen

    def post(self, path: str, body: Body) -> tuple[int, Any]:
        """Send a request and read its JSON."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT_S)
        with closing(connection):
            connection.request("POST", path, msgspec.json.encode(body), {"content-type": "application/json"})
            with connection.getresponse() as response:
                return response.status, msgspec.json.decode(response.read())

    def ask(self, door: str, end: str, wish: Wish) -> Seen:
        """Ask the model `small` of `end` through `door`."""
        return self.send(door, self.body(door, end, wish))

    def body(self, door: str, end: str, wish: Wish) -> Body:
        body = DOORS[door].body(wish)
        return {**body, "model": f"{end}/{wish.model}"}


@contextmanager
def up(home: Path, bases: Mapping[str, str], *, with_echo: bool = False) -> Iterator[tuple[str, int]]:
    """A gateway over the state folder `home` with a provider of each kind at its base URL; gives host and port."""
    tables = [
        f'[[reach.providers]]\nname = "{kind}"\nkind = "{kind}"\nbase_url = "{base}"\n' for kind, base in bases.items()
    ]
    (home / "catena.toml").write_text("\n".join(["[reach]\nport = 0\ndrain_s = 1\n", *tables]))
    (home / "policy.toml").write_text(OPEN_POLICY)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("CATENA_HOME", str(home))
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal("asyncio", {"use_uvloop": True}))
        chain = stack.enter_context(portal.wrap_async_context_manager(open_chain(with_echo=with_echo)))
        running = stack.enter_context(
            portal.wrap_async_context_manager(listening(chain.gateway(), chain.settings.reach))
        )
        host, _, port = running.url.removeprefix("http://").rpartition(":")
        yield host, int(port)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Everything runs until the module ends."""
    with ExitStack() as stack:
        providers = {name: stack.enter_context(provider(name)) for name in ENDS}
        bases = {name: one.url for name, one in providers.items()}
        yield Matrix(*stack.enter_context(up(tmp_path_factory.mktemp("home"), bases)), providers)


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    """No test sees what another asked."""
    if "matrix" in request.fixturenames:
        for one in request.getfixturevalue("matrix").providers.values():
            one.asked.clear()
            one.gone.clear()
