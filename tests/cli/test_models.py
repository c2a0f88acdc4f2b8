"""`catena pull | models | show | verify | rm | gc` over a small GGUF file of the user's own."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import catena
from tests.weights import write_gguf

from catena.core.errors import EXIT_CODE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def pulled(home: Path, tmp_path: Path) -> dict[str, Any]:
    weights = write_gguf(tmp_path / "tiny.gguf")
    done = catena(home, "pull", str(weights), "--name", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    row: dict[str, Any] = json.loads(done.stdout)["row"]
    return row


def blob(home: Path, row: dict[str, Any]) -> Path:
    digest = row["manifest"]["files"][0]["digest"].removeprefix("sha256:")
    (path,) = (home / "blobs" / "sha256").rglob(f"{digest}*")
    return path


def test_a_pulled_file_is_listed_shown_and_verified(home: Path, pulled: dict[str, Any]) -> None:
    (listed,) = json.loads(catena(home, "models", "--json").stdout)
    assert (listed["name"], listed["digest"], listed["aliases"]) == ("tiny", pulled["digest"], [])
    shown = json.loads(catena(home, "show", "tiny", "--json").stdout)
    assert shown["digest"] == pulled["digest"]
    assert shown["manifest"]["facts"]["architecture"] == "llama"
    assert json.loads(catena(home, "verify", "tiny", "--json").stdout)[0]["ok"]
    assert "llama" in catena(home, "show", "tiny").stdout
    assert "tiny" in catena(home, "models").stdout


def test_the_default_model_is_marked(home: Path, pulled: dict[str, Any]) -> None:
    done = catena(home, "models", "--json", CATENA__REACH__DEFAULT_MODEL="tiny")
    assert json.loads(done.stdout)[0]["aliases"] == ["default"]
    shown = catena(home, "show", "default", "--json", CATENA__REACH__DEFAULT_MODEL="tiny")
    assert json.loads(shown.stdout)["digest"] == pulled["digest"]


def test_a_changed_byte_fails_verify_with_exit_code_1(home: Path, pulled: dict[str, Any]) -> None:
    path = blob(home, pulled)
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = catena(home, "verify", "tiny", "--json")
    assert done.returncode == 1
    assert not json.loads(done.stdout)[0]["ok"]


def test_one_manifest_that_cannot_be_trusted_does_not_hide_the_others(
    home: Path, pulled: dict[str, Any], tmp_path: Path
) -> None:
    other = write_gguf(tmp_path / "other.gguf", seed=1)
    assert catena(home, "pull", str(other), "--name", "other").returncode == 0
    with closing(sqlite3.connect(home / "catena.db")) as database, database:
        database.execute("UPDATE manifests SET signature = zeroblob(64) WHERE digest = ?", (pulled["digest"],))
    done = catena(home, "verify", "--all", "--json")
    assert done.returncode == 1
    assert {row["name"]: row["ok"] for row in json.loads(done.stdout)} == {"other": True, "tiny": False}


def test_a_removed_model_is_gone_and_its_space_is_freed(home: Path, pulled: dict[str, Any]) -> None:
    path = blob(home, pulled)
    assert catena(home, "rm", "tiny").returncode == 0
    assert catena(home, "models", "--json").stdout.strip() == "[]"
    assert json.loads(catena(home, "gc", "--dry-run", "--json").stdout)["num_files"] == 1
    assert path.exists()
    assert json.loads(catena(home, "gc", "--json").stdout)["num_files"] == 1
    assert not path.exists()
    assert catena(home, "rm", "tiny").returncode == EXIT_CODE["not_found"]


def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    text = tmp_path / "letter.gguf"
    text.write_text("Dear Sir or Madam")
    done = catena(home, "pull", str(text))
    assert done.returncode == EXIT_CODE["malformed_file"]
    assert "hint: " in done.stderr
    assert catena(home, "models", "--json").stdout.strip() == "[]"
    assert [path for path in (home / "blobs").rglob("*") if path.is_file()] == []


def test_verify_without_a_name_says_what_to_do(home: Path) -> None:
    done = catena(home, "verify")
    assert done.returncode == EXIT_CODE["invalid_input"]
    assert "--all" in done.stderr
