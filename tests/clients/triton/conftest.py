"""A running `catena up` with small models that predict, and the official Triton client for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy
import pytest
import tritonclient.grpc as calls
import tritonclient.http as triton
from tests import graphs
from tests.clients.conftest import Gateway, up
from tests.conftest import catena

MODELS: dict[str, bytes] = {
    "net": graphs.mlp(),
    "lookup": graphs.lookup(),
    "centred": graphs.centred(),
    "words": graphs.identity(graphs.STRING),
    "numbers": graphs.identity(graphs.FLOAT, graphs.DOUBLE, graphs.INT64, graphs.INT32, graphs.INT8, graphs.BOOL),
    "halves": graphs.identity(graphs.HALF),
}


class Server(NamedTuple):
    """The gateway, its address as the client wants it, and its state folder."""

    gateway: Gateway
    home: Path

    @property
    def address(self) -> str:
        return self.gateway.url.removeprefix("http://")

    def client(self, **options: Any) -> triton.InferenceServerClient:
        return triton.InferenceServerClient(self.address, **options)

    def caller(self, **options: Any) -> calls.InferenceServerClient:
        """The client for gRPC."""
        return calls.InferenceServerClient(self.gateway.calls, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        """POST for what the client has no method for."""
        return httpx2.post(self.gateway.url + path, json=body, timeout=30, **options)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway that the suite asks."""
    folder = tmp_path_factory.mktemp("triton")
    home = folder / "home"
    for name, data in MODELS.items():
        done = catena(home, "pull", str(graphs.write(folder / "files", name, data)))
        assert done.returncode == 0, done.stderr
    with up(home, "--echo", "--grpc-port", "0") as running:
        yield Server(running, home)


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with server.client() as client:
        yield client


def given(name: str, values: Any, *, is_binary: bool = True, datatype: str | None = None) -> triton.InferInput:
    """An input of the client's own class, made of a numpy array."""
    array = numpy.asarray(values)
    one = triton.InferInput(name, list(array.shape), datatype or triton.np_to_triton_dtype(array.dtype))
    one.set_data_from_numpy(array, binary_data=is_binary)
    return one


@pytest.fixture(scope="session")
def caller(server: Server) -> Iterator[calls.InferenceServerClient]:
    with server.caller() as client:
        yield client


def sent(name: str, values: Any, datatype: str | None = None) -> calls.InferInput:
    """An input of the gRPC client's own class, made of a numpy array."""
    array = numpy.asarray(values)
    one = calls.InferInput(name, list(array.shape), datatype or calls.np_to_triton_dtype(array.dtype))
    one.set_data_from_numpy(array)
    return one


def rows(num_rows: int = 1, seed: int = 0) -> Any:
    """Features for `net`."""
    return numpy.random.default_rng(seed).standard_normal((num_rows, 4)).astype(numpy.float32)


def alone(data: bytes, **feeds: Any) -> dict[str, Any]:
    """What the library says of a model by itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data)
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
