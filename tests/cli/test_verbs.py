"""The verbs from the outside: words on standard output, errors with a next step, exit codes from one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import catena

from catena.cli import SUMMARIES
from catena.core import registry
from catena.core.errors import EXIT_CODE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_every_verb_has_a_summary_and_every_summary_a_verb() -> None:
    assert set(SUMMARIES) == set(registry.names("verbs"))


@pytest.mark.parametrize("verb", sorted(SUMMARIES))
def test_every_verb_explains_itself(verb: str, home: Path) -> None:
    done = catena(home, verb, "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert done.stderr == ""
    assert not home.exists(), "asking for help made a state folder"


def test_an_unknown_verb_is_wrong_use(home: Path) -> None:
    done = catena(home, "serve")
    assert done.returncode == 2
    assert "serve" in done.stderr


def test_asking_for_a_model_that_is_not_here_says_how_to_get_it(home: Path) -> None:
    done = catena(home, "ask", "hello")
    assert done.returncode == EXIT_CODE["not_found"]
    assert "hint: " in done.stderr
    assert "catena pull smollm2-135m-instruct" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_question_is_wrong_use(home: Path) -> None:
    done = catena(home, "ask", "  ")
    assert done.returncode == EXIT_CODE["invalid_input"]
    assert "hint: " in done.stderr


def test_the_catalogue_is_listed_without_a_source(home: Path) -> None:
    rows = json.loads(catena(home, "pull", "--json").stdout)
    assert {"smollm2-135m-instruct", "bge-small-en-v1.5"} <= {row["name"] for row in rows}
    assert all(len(file["digest"]) == 71 for row in rows for file in row["files"])


def test_a_source_that_is_nothing_is_refused_with_a_hint(home: Path) -> None:
    done = catena(home, "pull", "no-such-thing")
    assert done.returncode == EXIT_CODE["not_found"]
    assert "hint: " in done.stderr


def test_a_state_folder_that_cannot_be_made_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = catena(blocked / "home", "models")
    assert done.returncode == EXIT_CODE["invalid_config"]
    assert "CATENA_HOME" in done.stderr


def test_an_unknown_setting_is_refused_with_the_nearest_name(home: Path) -> None:
    done = catena(home, "config", "show", CATENA__REACH__PROT="1")
    assert done.returncode == EXIT_CODE["invalid_config"]
    assert "reach.port" in done.stderr


def test_settings_tell_where_they_come_from(home: Path) -> None:
    home.mkdir()
    (home / "catena.toml").write_text("[run]\nslots = 2\n")
    done = catena(home, "config", "show", "--json", CATENA__REACH__PORT="7500")
    settings = json.loads(done.stdout)["settings"]
    assert settings["run.slots"] == {"value": 2, "origin": "catena.toml"}
    assert settings["reach.port"] == {"value": 7500, "origin": "environment"}
    assert settings["run.queue_limit"]["origin"] == "default"


def test_a_key_is_shown_once_and_kept_only_as_a_hash(home: Path) -> None:
    made = json.loads(catena(home, "keys", "add", "laptop", "--scope", "ask", "--json").stdout)
    assert made["key"].startswith("ctn_")
    listed = catena(home, "keys", "list", "--json").stdout
    assert made["key"] not in listed
    assert [row["name"] for row in json.loads(listed)] == ["laptop"]
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert made["key"].encode() not in everything
    assert catena(home, "keys", "add", "laptop").returncode == EXIT_CODE["conflict"]
    assert catena(home, "keys", "revoke", "laptop").returncode == 0
    assert json.loads(catena(home, "keys", "list", "--json").stdout)[0]["revoked_at_ns"] is not None
    assert catena(home, "keys", "revoke", "phone").returncode == EXIT_CODE["not_found"]


def test_listening_beyond_this_machine_without_a_key_is_refused(home: Path) -> None:
    done = catena(home, "up", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == EXIT_CODE["invalid_config"]
    assert "catena keys add" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, home: Path) -> None:
    done = catena(home, "completion", shell)
    assert done.returncode == 0
    assert "_CATENA_COMPLETE" in done.stdout


def test_completion_knows_the_verbs(home: Path) -> None:
    done = catena(home, _CATENA_COMPLETE="bash_complete", COMP_WORDS="catena mo", COMP_CWORD="1")
    assert "plain,models" in done.stdout
