"""The life of an answer: a newcomer pulls a model, asks, keeps the receipt, and has it checked by a stranger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import catena, copied

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_home: Path) -> Path:
    """A fresh state folder whose chat model came from a file on the same disk."""
    home = tmp_path_factory.mktemp("home")
    shown = json.loads(catena(models_home, "show", "smollm2-135m-instruct", "--json").stdout)
    (weights,) = (file for file in shown["manifest"]["files"] if file["role"] == "weights")
    digest = weights["digest"].removeprefix("sha256:")
    (path,) = (models_home / "blobs" / "sha256").rglob(f"{digest}*")
    named = tmp_path_factory.mktemp("download") / weights["name"]
    named.hardlink_to(path)
    done = catena(home, "pull", str(named), "--name", "smollm2-135m-instruct", "--json")
    assert done.returncode == 0, done.stderr
    pulled = json.loads(done.stdout)
    assert pulled["how"] in ("linked", "cloned")
    assert pulled["bytes_downloaded"] == 0
    return home


@pytest.fixture(scope="module")
def asked(home: Path) -> dict[str, Any]:
    """One question asked where no gateway runs."""
    done = catena(home, "ask", "Name one river.", "--json", "--max-tokens", "24", "--seed", "1")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_ask_answers_with_everything_that_the_contract_names(asked: dict[str, Any]) -> None:
    assert set(asked) == {"answer", "model", "digest", "decision", "receipt", "usage", "timings"}
    assert asked["answer"].strip()
    assert asked["model"] == "smollm2-135m-instruct"
    assert asked["decision"]["outcome"] == "local"
    assert 0 < asked["usage"]["completion_tokens"] <= 24


def test_the_receipt_is_proved_by_the_stand_alone_verifier_with_the_public_key_only(
    home: Path, asked: dict[str, Any], tmp_path: Path
) -> None:
    proof = tmp_path / "proof.json"
    assert catena(home, "audit", "prove", asked["receipt"], "-o", str(proof)).returncode == 0
    key = tmp_path / "key"
    key.write_text((home / "keys" / "verifier.vkey").read_text())
    command = [sys.executable, "-m", "catena.watch.verifier", str(proof), "--key", str(key)]
    bare = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, env=bare, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "verified")
    text = proof.read_text()
    receipt = asked["receipt"]
    proof.write_text(text.replace(receipt, receipt[:-1] + ("0" if receipt[-1] != "0" else "1")))
    done = subprocess.run(command, capture_output=True, text=True, env=bare, timeout=60, check=False)
    assert done.returncode == 1


def test_the_trace_shows_every_link_and_breaks_when_the_weights_are_touched(home: Path, asked: dict[str, Any]) -> None:
    done = catena(home, "trace", asked["receipt"], "--json", "--full")
    assert done.returncode == 0, done.stderr
    states = {link["stage"]: link["state"] for link in json.loads(done.stdout)["links"]}
    assert states == {
        "built": "not_recorded",
        "stored": "verified",
        "run": "verified",
        "reached": "verified",
        "watched": "verified",
    }


def test_the_log_verifies_and_says_what_the_contract_names(home: Path, asked: dict[str, Any]) -> None:
    done = catena(home, "audit", "verify", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert {"ok", "records", "open", "root", "checkpoint"} <= set(found)
    assert (found["ok"], found["open"]) == (True, 0)
    assert found["records"] >= 2


def test_an_answer_can_be_traced_after_its_model_is_gone(home: Path, asked: dict[str, Any]) -> None:
    assert catena(home, "rm", "smollm2-135m-instruct").returncode == 0
    freed = json.loads(catena(home, "gc", "--json").stdout)
    assert freed["num_bytes"] > 90_000_000
    done = catena(home, "trace", asked["receipt"], "--json")
    links = {link["stage"]: link for link in json.loads(done.stdout)["links"]}
    assert links["watched"]["state"] == "verified"
    assert links["stored"]["state"] == "not_recorded"
    gone = catena(home, "ask", "Are you there?")
    assert gone.returncode == 66
    assert "catena pull smollm2-135m-instruct" in gone.stderr


@pytest.fixture(scope="module")
def toured(models_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(models_home, tmp_path_factory.mktemp("tour") / "home")


@pytest.fixture(scope="module")
def tour(toured: Path) -> Iterator[subprocess.Popen[str]]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CATENA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "catena", "tour", "--port", "0"],
        env={**variables, "CATENA_HOME": str(toured)},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def test_the_tour_answers_proves_its_receipt_and_serves_until_interrupted(
    tour: subprocess.Popen[str], toured: Path
) -> None:
    assert tour.stdout is not None
    lines: list[str] = []
    for line in tour.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("open http://"):
            break
    text = "\n".join(lines)
    assert "you> What is a chain?" in text
    assert "verified" in next(line for line in lines if line.startswith("receipt"))
    assert tour.poll() is None
    second = catena(toured, "ask", "Say hello.", "--max-tokens", "8", "--json")
    assert second.returncode == 0, second.stderr
    tour.send_signal(signal.SIGINT)
    assert tour.wait(60) in (0, 130)
    assert not (toured / "gateway.json").exists()
