"""Where gRPC is served, and what the rest of the gateway knows of it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.reach.gateway.conftest import Door, Listening
from tests.reach.gateway.grpc.test_connection import SERVICE, Peer, question

from catena.core.errors import ConfigError, ConflictError, MissingExtraError
from catena.core.settings import ReachSettings
from catena.reach.gateway.application import create
from catena.reach.gateway.server import listening

Serve = Callable[..., tuple[Door, Listening, Any]]


async def open_door(door: Door, **settings: Any) -> None:
    async with listening(door.app, ReachSettings(port=0, **settings)):
        pass


def test_grpc_is_off_unless_a_port_is_given(serve: Serve) -> None:
    _, running, _ = serve()
    assert running.calls is None


def test_a_taken_port_is_a_conflict_and_leaves_nothing_open(serve: Serve) -> None:
    door, _, portal = serve()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match="is taken") as caught:
            portal.call(lambda: open_door(door, grpc_port=port))
    assert "--grpc-port 0" in caught.value.hint


def test_without_its_library_the_error_names_the_extra(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    door, _, portal = serve()
    for name in [name for name in sys.modules if name.startswith("catena.reach.gateway.grpc.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hpack", None)
    with pytest.raises(MissingExtraError) as caught:
        portal.call(lambda: open_door(door, grpc_port=0))
    assert caught.value.hint == "pip install 'catena[grpc]'"


def test_beyond_this_machine_calls_need_a_key(make_door: Callable[..., Door], serve: Serve) -> None:
    door = make_door()
    with pytest.raises(ConfigError):
        create(door.script, ReachSettings(host="0.0.0.0"), door.access, models=lambda: [])
    door, running, _ = serve(grpc_port=0)
    _, key = door.access.add("caller", ("ask",))
    door.access.check_listening("0.0.0.0")
    assert running.calls is not None
    peer = Peer(running.calls.address)
    with peer.socket:
        peer.call(SERVICE + "ModelInfer", question())
        assert peer.answer()[1]["grpc-status"] == "16"
        peer.call(SERVICE + "ModelInfer", question(), 3, authorization=f"Bearer {key}")
        assert peer.answer(3)[1]["grpc-status"] == "0"


def test_metrics_count_calls_by_procedure(serve: Serve) -> None:
    _, running, _ = serve(grpc_port=0)
    assert running.calls is not None
    peer = Peer(running.calls.address)
    with peer.socket:
        for stream, message in ((1, question()), (3, b"\xff")):
            peer.call(SERVICE + "ModelInfer", message, stream)
            peer.answer(stream)
    found = httpx2.get(f"{running.url}/metrics", timeout=10).text
    for status in ("200", "400"):
        assert f'catena_reach_requests_total{{route="{SERVICE}ModelInfer",status="{status}"}}' in found


def test_http_does_not_know_the_procedures(serve: Serve) -> None:
    _, running, _ = serve(grpc_port=0)
    answer = httpx2.post(f"{running.url}{SERVICE}ServerLive", content=b"", timeout=10)
    assert answer.status_code == 405
