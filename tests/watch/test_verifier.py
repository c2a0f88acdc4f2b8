"""The stand-alone verifier: one file that runs without Catena, says `verified` only for what is proved."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catena.core.errors import IntegrityError
from catena.core.messages import Closed, Opened, canonical_bytes
from catena.watch import proof, verifier
from catena.watch.keys import Signer
from catena.watch.log import AuditReader
from catena.watch.writer import Writer

Grow = Callable[..., Path]


@pytest.fixture
def proved(grow: Grow, signer: Signer, records: Any) -> dict[str, Any]:
    reader = AuditReader.open(grow(150))
    return json.loads(msgspec.json.encode(reader.prove(records.receipt(40), signer.salt(records.receipt(40)))))


def test_it_runs_alone_on_a_machine_without_catena(proved: dict[str, Any], signer: Signer, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(verifier.__file__, alone / "check.py")
    (alone / "proof.json").write_text(json.dumps(proved))
    (alone / "key").write_text(signer.verifier_key + "\n")
    run = [sys.executable, "-I", "check.py", "proof.json", "--key", "key"]
    good = subprocess.run(run, check=False, cwd=alone, capture_output=True, text=True, timeout=30)
    assert (good.returncode, good.stdout, good.stderr) == (0, "verified\n", "")
    proved["records"][0]["index"] += 1
    (alone / "proof.json").write_text(json.dumps(proved))
    bad = subprocess.run(run, check=False, cwd=alone, capture_output=True, text=True, timeout=30)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "is not in the signed tree" in bad.stderr


def test_as_a_module_it_loads_nothing_of_catena_but_empty_packages() -> None:
    code = "import sys, catena.watch.verifier; print(*[name for name in sys.modules if name.startswith('catena')])"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    assert names.split() == ["catena", "catena.watch", "catena.watch.verifier"]


def test_it_is_short_and_needs_only_python_and_cryptography() -> None:
    text = Path(verifier.__file__).read_text()
    assert len(text.splitlines()) < 360
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_what_a_proof_proves_can_be_changed(
    proved: dict[str, Any], signer: Signer, data: st.DataObject
) -> None:
    changed = json.loads(json.dumps(proved))
    record = changed["records"][data.draw(st.integers(0, 1))]
    place = data.draw(st.sampled_from(["entry", "path", "checkpoint", "receipt"]))
    holder, key = (
        (record, "entry")
        if place == "entry"
        else (record["path"], data.draw(st.integers(0, len(record["path"]) - 1)))
        if place == "path"
        else (changed, place)
    )
    text = holder[key]
    at = data.draw(st.integers(0, len(text) - 1))
    holder[key] = text[:at] + data.draw(st.characters().filter(lambda new: new != text[at])) + text[at + 1 :]
    with pytest.raises(verifier.Failed):
        verifier.check_proof(changed, signer.verifier_key)


@pytest.mark.parametrize(
    "broken",
    [
        None, [], {}, "text", 5, {"format": "catena.proof/1"}, {"format": "other"},
        {"format": "catena.proof/1", "checkpoint": 5, "records": [], "receipt": "r"},
    ],
)  # fmt: skip
def test_nonsense_is_not_verified_and_is_no_crash(broken: Any, signer: Signer) -> None:
    with pytest.raises(verifier.Failed):
        verifier.check_proof(broken, signer.verifier_key)
    with pytest.raises(IntegrityError):
        proof.check(broken, signer.verifier_key)


def test_records_of_two_requests_do_not_make_a_proof(
    proved: dict[str, Any], grow: Grow, signer: Signer, records: Any
) -> None:
    other = json.loads(msgspec.json.encode(AuditReader.open(grow(1)).prove(records.receipt(41))))
    own, strange = proved["records"], other["records"]
    for mixed in ([own[0], strange[1]], own[::-1], own[1:], own * 2, []):
        with pytest.raises(verifier.Failed):
            verifier.check_proof({**proved, "records": mixed}, signer.verifier_key)


def test_question_and_answer_are_compared_with_their_salted_digests(
    tmp_path: Path, signer: Signer, records: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt, question, answer = records.receipt(1), canonical_bytes({"ask": "why?"}), canonical_bytes(["because"])
    salted = [f"sha256:{hashlib.sha256(signer.salt(receipt) + text).hexdigest()}" for text in (question, answer)]
    writer = Writer.open(tmp_path / "audit", signer)
    opened = msgspec.structs.replace(records.opened(1), question_digest=salted[0])
    closed = msgspec.structs.replace(records.closed(1, 0), answer_digest=salted[1])
    writer.commit([opened, closed])
    writer.close()
    reader = AuditReader.open(tmp_path / "audit")
    files = {"proof": msgspec.json.encode(reader.prove(receipt, signer.salt(receipt))), "q": question, "a": answer}
    files["bare"] = msgspec.json.encode(reader.prove(receipt))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    key = ["--key", str(tmp_path / "keys" / "verifier.vkey")]

    def run(name: str, *more: str) -> int:
        return verifier.main([str(tmp_path / name), *key, *more])

    assert run("proof", "--question", str(tmp_path / "q"), "--answer", str(tmp_path / "a")) == 0
    assert run("proof", "--question", str(tmp_path / "a")) == 1
    assert "not the one that was recorded" in capsys.readouterr().err
    assert run("bare", "--answer", str(tmp_path / "a")) == 1
    assert "carries no salt" in capsys.readouterr().err
    assert base64.b64decode(json.loads(files["proof"])["salt"]) == signer.salt(receipt)


def test_a_request_that_is_still_open_is_proved_by_its_one_record(grow: Grow, signer: Signer, records: Any) -> None:
    reader = AuditReader.open(grow(3, keep_open=1, is_closed=False))
    opened, closed = proof.check(reader.prove(records.receipt(2)), signer.verifier_key)
    assert isinstance(opened, Opened) and not isinstance(closed, Closed)


def test_a_missing_file_is_said_and_not_a_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verifier.main([str(tmp_path / "none"), "--key", str(tmp_path / "none")]) == 1
    assert "not verified" in capsys.readouterr().err
