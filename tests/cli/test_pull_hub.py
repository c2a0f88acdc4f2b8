"""`catena pull` from a hub: what it says on the way, offline, and when it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import catena
from tests.store.hub_server import HubServer, Repo
from tests.weights import write_gguf

from catena.core.errors import EXIT_CODE


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    content = write_gguf(tmp_path / "served.gguf").read_bytes()
    with HubServer(**{"org/Tiny": Repo({"Tiny-Q4_K_M.gguf": content, "Tiny-Q8_0.gguf": content})}) as server:
        yield server


def test_a_pull_from_a_hub_tells_its_pace_and_is_taken_offline_afterwards(hub: HubServer, tmp_path: Path) -> None:
    home, environ = tmp_path / "home", {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
    done = catena(home, "pull", "hf:org/Tiny", "--json", **environ)
    assert done.returncode == 0, done.stderr
    assert "downloading org/Tiny" in done.stderr
    assert json.loads(done.stdout)["row"]["manifest"]["provenance"]["source"].startswith("hf:org/Tiny@")
    hub.seen.clear()
    again = catena(home, "pull", "--offline", "hf:org/Tiny", **environ)
    assert (again.returncode, hub.seen) == (0, [])
    assert "was here already" in again.stdout
    missing = catena(home, "pull", "--offline", "hf:org/Tiny:Q8_0", **environ)
    assert missing.returncode == EXIT_CODE["not_found"]
    assert "offline" in missing.stderr and hub.seen == []


def test_a_quantisation_that_is_not_there_is_answered_with_the_nearest(hub: HubServer, tmp_path: Path) -> None:
    done = catena(tmp_path / "home", "pull", "hf:org/Tiny:q4_k", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    assert done.returncode == EXIT_CODE["not_found"]
    assert "nearest: Q4_K_M" in done.stderr
