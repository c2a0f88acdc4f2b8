"""`catena egress`: who got what, proofs of it, and the exact bytes once more."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from catena.cli import main
from catena.core.messages import Closed, Decision, Egress, Opened
from catena.core.settings import ReachSettings
from catena.reach.egress.keeping import Shelf
from catena.reach.ticket import salted_digest
from catena.reach.vault import Vault
from catena.watch import verifier
from catena.watch.keys import Signer
from catena.watch.writer import Writer

DIGEST = "sha256:" + "a" * 64
BYTES = b'POST /v1/chat/completions HTTP/1.1\r\nhost: far.example\r\n\r\n{"model":"big"}\x1b[31m'
DAY_NS = 86_400 * 10**9
START_NS = 1_795_000_000_000_000_000
Run = Callable[..., tuple[int, str, str]]


def receipt(number: int) -> str:
    return f"rcpt_{number:026d}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three requests for `far`, a day apart, one for `near`; the bytes of the first are kept."""
    home = tmp_path / "home"
    monkeypatch.setenv("CATENA_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    signer, vault = Signer.open(home), Vault.open(home, ReachSettings())
    shelf = Shelf(home, vault)
    log = Writer.open(home / "audit", signer)
    for number, name in enumerate(("far/big", "far/big", "far/small", "near/big")):
        decision = Decision(
            "remote", "named", model=name, model_digest=DIGEST, host=f"{name.partition('/')[0]}.example"
        )
        at_ns = START_NS + number * DAY_NS
        (index,) = log.commit([Opened(receipt(number), at_ns, "openai.chat", "local", "generate", decision, DIGEST)])
        assert isinstance(index, int)
        digest = salted_digest(signer.salt(receipt(number)), BYTES)
        left = Egress(receipt(number), at_ns + 1, index, 1, digest, len(BYTES), decision.host or "", rules=("open",))
        log.commit([left])
        if number == 0:
            anyio.run(shelf.keep, left, BYTES)
        told = 2 if number == 2 else 1  # one departure of the third request is missing
        log.commit([Closed(receipt(number), at_ns + 2, index, "complete", received_bytes=50, departures=told)])
    log.close()
    vault.close()
    return home


@pytest.fixture
def run(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    def call(*words: str) -> tuple[int, bytes, str]:
        with pytest.raises(SystemExit) as ended:
            main(["egress", *words])
        out, err = capfdbinary.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err.decode()

    return call  # type: ignore[return-value]


def test_show_lists_departures_and_sums_them_for_each_provider(run: Run) -> None:
    code, out, _ = run("show", "--json")
    found = json.loads(out)
    assert code == 0 and [row["receipt"] for row in found["departures"]] == [receipt(number) for number in range(4)]
    first = found["departures"][0]
    assert (first["num_bytes"], first["provider"], first["rules"], first["is_kept"]) == (
        len(BYTES),
        "far",
        ["open"],
        True,
    )
    assert [(each["provider"], each["requests"], each["bytes_out"], each["bytes_in"]) for each in found["totals"]] == [
        ("far", 3, 3 * len(BYTES), 150),
        ("near", 1, len(BYTES), 50),
    ]
    assert [each["incomplete"] for each in found["totals"]] == [1, 0]
    text = run("show", "--provider", "far")[1]
    assert text.count(b"rcpt_") == 3 and b"near" not in text and b"1 requests lack departures" in text
    assert run("show", "--totals")[1].count(b"rcpt_") == 0


def test_show_since(run: Run) -> None:
    assert run("show", "--since", "2026-11-20")[1].count(b"rcpt_") == 2
    assert run("show", "--since", "1m", "--provider", "nobody")[1] == b""
    code, _, err = run("show", "--since", "yesterday")
    assert code != 0 and "is no time" in err and "7d" in err


def test_a_proof_is_a_small_file_that_the_stand_alone_verifier_takes(run: Run, home: Path, tmp_path: Path) -> None:
    code, _, err = run("prove", receipt(1), "-o", "one.proof", "--salt")
    assert code == 0 and "verifier.vkey" in err
    proof = tmp_path / "one.proof"
    assert proof.stat().st_size <= 1024
    (tmp_path / "sent").write_bytes(BYTES)
    command = [sys.executable, verifier.__file__, str(proof), "--key", str(home / "keys" / "verifier.vkey")]
    done = subprocess.run([*command, "--sent", str(tmp_path / "sent")], capture_output=True, text=True, check=True)
    assert done.stdout == "verified\n"
    assert run("prove", receipt(1), "-o", "-")[1].startswith(verifier.EGRESS_START)
    code, _, err = run("prove", receipt(77))
    assert code != 0 and "knows no receipt" in err


def test_replay_shows_the_exact_bytes_and_reaches_nobody(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    code, out, err = run("replay", receipt(0))
    assert (code, out) == (0, BYTES) and "far.example" in err and "signed log" in err
    assert json.loads(run("replay", receipt(0), "--json")[1])["num_bytes"] == len(BYTES)
    code, out, err = run("replay", receipt(1))
    assert (code != 0, out) == (True, b"") and "not kept" in err and "keep_egress" in err
    path = next((home / "egress").rglob("rcpt_*"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, err = run("replay", receipt(0))
    assert (code != 0, out) == (True, b"") and "was changed" in err
