"""`catena ask` and `catena chat`: through a running gateway, or through one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import catena, copied

from catena.core.errors import EXIT_CODE


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder that a gateway with the echo engine serves."""
    home = tmp_path_factory.mktemp("home")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CATENA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "catena", "up", "--port", "0", "--echo"],
        env={**variables, "CATENA_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready http://127.0.0.1:")
    yield home
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()
    assert not (home / "gateway.json").exists(), "a gateway that ended is still announced"


def talk(home: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "catena", "chat", "--model", "echo"],
        env={**os.environ, "CATENA_HOME": str(home)},
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_answer_goes_to_standard_output_and_the_receipt_to_standard_error(home: Path) -> None:
    done = catena(home, "ask", "--model", "echo", "three", "blind", "mice")
    assert (done.returncode, done.stdout) == (0, "three blind mice\n")
    assert "receipt rcpt_" in done.stderr


def test_a_question_can_come_from_standard_input(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "catena", "ask", "--model", "echo", "--json", "-"],
        env={**os.environ, "CATENA_HOME": str(home)},
        input="问题从管道来",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["answer"] == "问题从管道来"
    assert (
        json.loads(catena(home, "audit", "show", found["receipt"], "--json").stdout)["closed"]["outcome"] == "complete"
    )


def test_an_unknown_model_is_an_error_with_the_code_of_the_table(home: Path) -> None:
    done = catena(home, "ask", "--model", "nobody", "hello")
    assert done.returncode == EXIT_CODE["not_found"]
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_second_gateway_on_the_same_state_folder_is_refused(home: Path) -> None:
    done = catena(home, "up", "--port", "0")
    assert done.returncode == EXIT_CODE["conflict"]
    assert "hint: " in done.stderr


def test_a_conversation_remembers_starts_over_and_ends(home: Path) -> None:
    done = talk(home, "one fish", "/receipt", "/new", "/nonsense", "two fish", "/quit")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["one fish", "two fish"]
    assert "rcpt_" in done.stderr
    assert "starts over" in done.stderr


def test_the_end_of_input_ends_a_conversation(home: Path) -> None:
    done = talk(home, "only this")
    assert (done.returncode, done.stdout.strip()) == (0, "only this")


@pytest.mark.model
def test_two_questions_at_once_share_the_one_gateway_that_the_first_brings(models_home: Path, tmp_path: Path) -> None:
    home = copied(models_home, tmp_path / "home")
    questions = ["Name a colour.", "Name a number."]
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(catena, home, "ask", question, "--json", "--max-tokens", "8") for question in questions]
        answers = [one.result() for one in asked]
    assert [answer.returncode for answer in answers] == [0, 0], [answer.stderr for answer in answers]
    receipts = {json.loads(answer.stdout)["receipt"] for answer in answers}
    assert len(receipts) == 2
