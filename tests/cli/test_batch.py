"""`catena batch` from the outside: a file in, a file out, what failed beside it, and a batch that is come back to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Gateway, up
from tests.conftest import catena

from catena.core.errors import EXIT_CODE

URL = "/v1/chat/completions"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "batches.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch") / "home"


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[Gateway]:
    with up(home, "--echo") as running:
        yield running


def write(path: Path, count: int, **changes: Any) -> Path:
    lines = [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": URL,
            "body": {"model": "echo", "messages": [{"role": "user", "content": f"say {number}"}], **changes},
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def names(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


def test_a_file_of_requests_becomes_a_file_of_answers(gateway: Gateway, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = catena(home, "batch", str(write(tmp_path / "in.jsonl", 20)), "-o", str(out))
    assert (done.returncode, done.stdout) == (0, "completed: 20 of 20 answered, 0 failed\n"), done.stderr
    assert sorted(names(out)) == sorted(f"r{number}" for number in range(20))
    assert "batch_" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_what_failed_is_beside_the_answers_and_in_the_exit_code(gateway: Gateway, home: Path, tmp_path: Path) -> None:
    file, out = write(tmp_path / "in.jsonl", 3, model="none"), tmp_path / "out.jsonl"
    done = catena(home, "batch", str(file), "-o", str(out), "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["status"], told["request_counts"]["failed"], told["output_file_id"]) == ("completed", 3, None)
    assert not out.exists()
    assert sorted(names(tmp_path / "out.jsonl.errors")) == ["r0", "r1", "r2"]


def test_a_batch_is_come_back_to_after_its_command_was_interrupted(
    gateway: Gateway, home: Path, tmp_path: Path
) -> None:
    file, out = write(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CATENA_")}
    words = [sys.executable, "-m", "catena", "batch", str(file), "-o", str(out)]
    environ["CATENA_HOME"] = str(home)

    def heed() -> None:  # a run of tests in the background hands on that interrupts are to be ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as begun:  # noqa: PLW1509
        assert begun.stderr is not None
        id = begun.stderr.readline().split()[0]
        begun.send_signal(signal.SIGINT)
        assert begun.wait(20) == 130
    assert not out.exists()
    done = catena(home, "batch", "--id", id, "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert len(names(out)) == len(set(names(out))) == 400


def test_a_gateway_is_brought_along_where_none_runs(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"custom_id": "a", "method": "GET", "url": URL, "body": {}}) + "\n{\n")
    done = catena(tmp_path / "home", "batch", str(file), "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "failed: 0 of 2 answered, 0 failed\n")
    assert "line 1: method must be POST (invalid_method)" in done.stderr
    assert "line 2: " in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_example_of_the_guide_prints_the_answers(gateway: Gateway, tmp_path: Path) -> None:
    found = re.search(r"```python example\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    assert len([line for line in found[1].splitlines() if line]) <= 10
    write(tmp_path / "in.jsonl", 2)
    environ = {**os.environ, "OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": "any"}
    done = subprocess.run(
        [sys.executable, "-c", found[1]],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["custom_id"] for line in done.stdout.splitlines() if line} == {"r0", "r1"}


def test_wrong_use_says_what_is_right(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("hello\n")
    for words, said in (
        ((), "--id"),
        ((str(file), "--id", "batch_1", "-o", "x"), "--id"),
        ((str(file),), "-o"),
        ((str(file), "-o", "x"), "custom_id"),
    ):
        done = catena(home, "batch", *words)
        assert done.returncode == EXIT_CODE["invalid_input"]
        assert said in done.stderr


def test_an_unknown_batch_is_told(gateway: Gateway, home: Path) -> None:
    done = catena(home, "batch", "--id", "batch_none", "-o", "x")
    assert done.returncode == EXIT_CODE["not_found"]


def test_an_output_that_cannot_be_written_is_told_and_the_batch_stays(
    gateway: Gateway, home: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "in.jsonl", 1)
    done = catena(home, "batch", str(file), "-o", str(tmp_path / "none" / "out"))
    assert done.returncode == EXIT_CODE["out_of_resources"]
    assert catena(home, "batch", "--id", done.stderr.split()[0], "-o", str(tmp_path / "out")).returncode == 0
