"""`catena audit`: its words, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catena.cli import main
from catena.core.messages import Closed, Decision, Opened, Usage
from catena.watch import verifier
from catena.watch.keys import Signer
from catena.watch.verification import verify
from catena.watch.writer import Writer

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with 200 requests, the last one open."""
    monkeypatch.setenv("CATENA_HOME", str(tmp_path / "home"))
    writer = Writer.open(tmp_path / "home" / "audit", Signer.open(tmp_path / "home"))
    decision = Decision("local", "only here", model="echo", model_digest=DIGEST)
    records: list[Opened | Closed] = []
    for number in range(200):
        receipt = f"rcpt_{number:026d}"
        opened = Opened(receipt, 1_795_000_000_000_000_000, "openai.chat", "local", "generate", decision, DIGEST)
        records.append(opened)
        if number < 199:
            usage = Usage(3, 4)
            records.append(Closed(receipt, 1_795_000_002_500_000_000, 2 * number, "complete", DIGEST, usage=usage))
    writer.commit(records)
    writer.close()
    return tmp_path / "home"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["audit", *words])
    out, err = capsys.readouterr()
    assert isinstance(exit.value.code, int)
    return exit.value.code, out, err


def test_verify_says_what_the_contract_names(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "verify", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["ok"], found["records"], found["open"]) == (True, 399, 1)
    assert found["checkpoint"] == (home / "audit" / "checkpoint").read_text()
    assert found["root"] == found["checkpoint"].split("\n")[2]


def test_verify_ends_with_1_and_names_the_place_when_something_was_changed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "audit" / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(b"local", b"cloud", 1))
    code, out, err = run(capsys, "verify")
    assert code == 1
    assert out.startswith("NOT OK")
    assert "tile/entries/000, entry 0: the entry does not match its hash" in err
    assert run(capsys, "verify", "--json")[0] == 1


def test_verify_takes_a_held_checkpoint_and_a_key(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "held").write_text((home / "audit" / "checkpoint").read_text())
    key = home / "keys" / "verifier.vkey"
    code, out, _ = run(capsys, "verify", "--since", str(tmp_path / "held"), "--key", str(key), "--json")
    assert (code, json.loads(out)["depth"]) == (0, "full")
    code, _, err = run(capsys, "verify", "--since", str(tmp_path / "nothing"))
    assert code == 66 and err.startswith("error: there is no file")


def test_show_lists_newest_first(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "--limit", "3")
    rows = out.splitlines()
    assert code == 0 and [row.split()[-1][-3:] for row in rows] == ["199", "198", "197"]
    assert rows[1].split()[1:] == ["2.50", "s", "complete", "3+4", "echo", f"rcpt_{198:026d}"]
    assert " open " in rows[0]
    found: list[dict[str, Any]] = json.loads(run(capsys, "show", "--json", "--limit", "2")[1])
    assert [row["closed_index"] for row in found] == [None, 397]


def test_show_tells_all_of_one_receipt(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", f"rcpt_{5:026d}")
    assert code == 0 and "opened: entry 10" in out and "closed: entry 11" in out and DIGEST in out
    code, _, err = run(capsys, "show", "rcpt_unknown")
    assert code == 66 and "hint:" in err


def test_prove_writes_what_the_verifier_takes(home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, key = tmp_path / "proof.json", str(home / "keys" / "verifier.vkey")
    code, out, _ = run(capsys, "prove", f"rcpt_{5:026d}", "-o", str(file))
    assert (code, out) == (0, "")
    assert verifier.main([str(file), "--key", key]) == 0
    assert capsys.readouterr().out == "verified\n"
    assert json.loads(file.read_bytes())["salt"] is None
    assert json.loads(run(capsys, "prove", f"rcpt_{5:026d}", "--salt")[1])["salt"]
    assert run(capsys, "prove", "rcpt_unknown")[0] == 66


def test_export_gives_lines_of_json_or_a_folder_of_tiles(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(capsys, "export", "-")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [line["index"] for line in lines] == list(range(399))
    assert msgspec.convert(lines[0]["record"], Opened).receipt == f"rcpt_{0:026d}"
    target = tmp_path / "copy"
    assert run(capsys, "export", str(target))[0] == 0
    for path in (home / "audit" / "tile").rglob("*"):
        if path.is_file():
            assert (target / path.relative_to(home / "audit")).read_bytes() == path.read_bytes()
    assert (target / "checkpoint").read_text() == (home / "audit" / "checkpoint").read_text()
    assert (target / "verifier.vkey").read_text() == (home / "keys" / "verifier.vkey").read_text()
    assert run(capsys, "export", str(target))[0] == 73


def test_a_home_without_a_log_is_empty_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CATENA_HOME", str(tmp_path / "new"))
    assert run(capsys, "show")[:2] == (0, "")
    assert json.loads(run(capsys, "verify", "--json")[1])["records"] == 0


def test_it_works_beside_the_writer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signer = Signer.open(home)
    writer = Writer.open(home / "audit", signer)
    code, out, _ = run(capsys, "verify", "--json")
    writer.close()
    assert (code, json.loads(out)["records"]) == (0, 400)
    assert verify(home / "audit", signer.verifier_key).open == 0
