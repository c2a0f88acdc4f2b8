"""`catena forget` and `catena vault` from the outside, beside a gateway and without one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tests.clients.conftest import up
from tests.conftest import catena

from catena.core.errors import EXIT_CODE

WORD = "canary 7f3a9c"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with two backups, one of which holds the word."""
    home = tmp_path / "home"
    (home / "backup").mkdir(mode=0o700, parents=True)
    (home / "backup" / "notes.b64").write_bytes(base64.b64encode(b"of " + WORD.encode()))
    (home / "backup" / "other").write_text("else")
    return home


def test_it_is_looked_for_shown_asked_about_forgotten_and_not_found_again(home: Path) -> None:
    checked = catena(home, "forget", "--check", WORD, "--json")
    assert checked.returncode == 1
    assert [hit["path"] for hit in json.loads(checked.stdout)["hits"]] == ["backup/notes.b64"]
    shown = catena(home, "forget", "--text", WORD, "--dry-run")
    assert shown.returncode == 0 and "would forget: 1 stray files\n  backup/notes.b64" in shown.stdout
    asked = catena(home, "forget", "--text", WORD)
    assert asked.returncode != 0 and "cannot be brought back" in asked.stderr
    assert (home / "backup" / "notes.b64").exists()
    done = catena(home, "forget", "--text", WORD, "--yes")
    assert done.returncode == 0 and "forgot: 1 stray files" in done.stdout and "0 still hold a text" in done.stdout
    assert catena(home, "forget", "--check", WORD).returncode == 0
    assert (home / "backup" / "other").exists()
    receipt = done.stdout.split("receipt: ")[1].strip()
    assert "forget" in catena(home, "audit", "show", receipt).stdout
    assert catena(home, "audit", "verify", "--full").returncode == 0


def test_beside_a_gateway_the_gateway_forgets_and_goes_on(home: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(f"{WORD}\n张伟民 先生\n", encoding="utf-8")
    with up(home, "--echo") as running, running.client() as client:
        known = client.responses.create(model="echo", input=f"remember {WORD}", store=True)
        other = client.responses.create(model="echo", input="remember nothing", store=True)
        catena(home, "keys", "add", "anna")
        report = json.loads(
            catena(home, "forget", "--from", str(tmp_path / "words.txt"), "--key", "anna", "--yes", "--json").stdout
        )
        assert (report["answers"], report["others"], report["left"]) == (1, ["backup/notes.b64"], [])
        assert client.responses.retrieve(other.id).id == other.id
        with pytest.raises(Exception, match="404"):
            client.responses.retrieve(known.id)
        assert client.responses.create(model="echo", input="more", store=True).id


def test_wrong_words_are_told_and_never_quoted(home: Path) -> None:
    for words in ((), ("--check", WORD, "--text", "other")):
        assert catena(home, "forget", *words).returncode == 2
    short = catena(home, "forget", "--text", "q!", "--yes")
    assert short.returncode == EXIT_CODE["invalid_input"] and "q!" not in short.stderr
    missing = catena(home, "forget", "--key", "nobody", "--yes")
    assert missing.returncode == EXIT_CODE["not_found"]
    assert catena(home, "forget", "--from", str(home / "none"), "--yes").returncode == EXIT_CODE["invalid_input"]


def test_the_vault_is_locked_anew_and_by_a_passphrase(home: Path) -> None:
    assert catena(home, "vault", "show").returncode == EXIT_CODE["not_found"]
    catena(home, "forget", "--text", WORD, "--yes")
    assert json.loads(catena(home, "vault", "show", "--json").stdout)["turn"] == 1
    assert catena(home, "vault", "rotate").returncode == 0
    new = {"CATENA_PASSPHRASE_NEW": "six words of a poem"}
    moved = catena(home, "vault", "rotate", "--to", "passphrase", **new)
    assert moved.returncode == 0 and 'vault = "passphrase"' in moved.stderr
    assert json.loads(catena(home, "vault", "show", "--json").stdout)["place"] == "passphrase"
    assert catena(home, "forget", "--text", WORD, "--yes").returncode == EXIT_CODE["invalid_config"]
    given = {"CATENA__REACH__VAULT": "passphrase", "CATENA_PASSPHRASE": new["CATENA_PASSPHRASE_NEW"]}
    assert catena(home, "forget", "--text", WORD, "--yes", **given).returncode == 0
    wrong = catena(home, "forget", "--text", WORD, "--yes", **{**given, "CATENA_PASSPHRASE": "wrong words"})
    assert wrong.returncode == EXIT_CODE["integrity"] and "wrong words" not in wrong.stderr
    assert all(path.stat().st_mode & 0o077 == 0 for path in (home / "keys").iterdir() if path.name != "verifier.vkey")
