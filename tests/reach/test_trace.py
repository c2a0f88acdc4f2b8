"""The trace shows each link as it is: verified, failed, or not recorded; over a real log with real proofs."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catena.core.errors import IntegrityError, NotFoundError
from catena.core.ids import new_id
from catena.core.manifest import FileEntry, Manifest, Provenance
from catena.core.messages import Closed, Cost, Decision, Opened, Timings, Usage
from catena.reach.trace import Link, Trace, trace
from catena.watch import proof
from catena.watch.keys import Signer
from catena.watch.log import AuditLog

pytestmark = pytest.mark.anyio
FOREIGN = Manifest(
    "tiny",
    "generate",
    "gguf",
    (FileEntry("weights", "tiny.gguf", 2048, "sha256:" + "5b" * 32),),
    "Apache-2.0",
    Provenance("wheel:tiny==1", source_digest="sha256:" + "9c" * 32),
)
OWN = msgspec.structs.replace(
    FOREIGN, provenance=Provenance("built", recipe="train_tiny", parents=("sha256:" + "1" * 64,), sentinel="clean")
)
DIGEST = "sha256:" + "ab" * 32
LOCAL = Decision("local", "it is here", model="tiny", model_digest=DIGEST)


class Manifests:
    """A store of one model."""

    def __init__(self, manifest: Manifest | Exception = FOREIGN) -> None:
        self.found = manifest
        self.file_error: Exception | None = None
        self.was_full: bool | None = None

    def manifest(self, digest: str, /) -> Manifest:
        if isinstance(self.found, Exception):
            raise self.found
        assert digest == DIGEST
        return self.found

    def check_files(self, digest: str, /, *, is_full: bool) -> None:
        self.was_full = is_full
        if self.file_error is not None:
            raise self.file_error


class Proofs:
    """The reading side of a log whose proofs pass through `tamper`."""

    def __init__(self, log: AuditLog, tamper: Callable[[Any], None] = lambda _: None) -> None:
        self._log, self._tamper = log, tamper

    def find(self, receipt: str, /) -> Any:
        return self._log.find(receipt)

    def prove(self, receipt: str, /) -> Any:
        made = msgspec.json.decode(msgspec.json.encode(self._log.prove(receipt)))
        self._tamper(made)
        return made


class Case:
    """A log with one request, and the ways to look at it."""

    def __init__(self, log: AuditLog, signer: Signer) -> None:
        self.log, self.signer = log, signer
        self.receipt = new_id("rcpt")

    async def record(self, decision: Decision = LOCAL, **closing: Any) -> None:
        index = await self.log.append(
            Opened(self.receipt, 10**18, "openai.chat", "local", "generate", decision, "sha256:" + "0" * 64)
        )
        if closing:
            await self.log.append(Closed(self.receipt, 10**18 + 2 * 10**9, index, **closing))

    def follow(
        self, manifests: Manifests | None = None, tamper: Callable[[Any], None] = lambda _: None, **options: Any
    ) -> Trace:
        return trace(
            self.receipt,
            Proofs(self.log, tamper),
            manifests or Manifests(),
            proof.checker(self.signer.verifier_key),
            **options,
        )


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    signer = Signer.open(tmp_path)
    log = await AuditLog.open(tmp_path / "audit", signer)
    yield Case(log, signer)
    await log.close()


def states(found: Trace) -> dict[str, str]:
    return {link.stage: link.state for link in found.links}


def link(found: Trace, stage: str) -> Link:
    return next(link for link in found.links if link.stage == stage)


COMPLETE: Any = {
    "outcome": "complete",
    "engine": "llama-cpp",
    "device": "cpu",
    "usage": Usage(5, 7),
    "timings": Timings(prefill_s=0.5, decode_s=1.0),
    "finish": ("stop",),
    "answer_digest": "sha256:" + "1" * 64,
}


async def test_the_links_stand_in_the_order_of_the_chain_and_all_but_a_foreign_making_hold(case: Case) -> None:
    await case.record(**COMPLETE)
    found = case.follow()
    assert list(states(found).items()) == [
        ("built", "not_recorded"),
        ("stored", "verified"),
        ("run", "verified"),
        ("reached", "verified"),
        ("watched", "verified"),
    ]
    assert found.ok


async def test_every_link_tells_its_facts(case: Case) -> None:
    await case.record(**COMPLETE)
    found = case.follow()
    assert link(found, "built").facts["source"] == "wheel:tiny==1"
    assert link(found, "stored").facts["digest"] == DIGEST
    assert link(found, "stored").facts["file tiny.gguf"].endswith("sha256:" + "5b" * 32)
    run = link(found, "run").facts
    assert (run["engine"], run["device"], run["tokens in"], run["tokens out"]) == ("llama-cpp", "cpu", "5", "7")
    assert run["took"] == "2.0 s"
    assert link(found, "reached").facts["why"] == "it is here"
    assert link(found, "watched").facts == {"opened at entry": "0", "closed at entry": "1"}


async def test_a_model_made_here_has_its_making_verified(case: Case) -> None:
    await case.record(**COMPLETE)
    built = link(case.follow(Manifests(OWN)), "built")
    assert built.state == "verified"
    assert built.facts["recipe"] == "train_tiny"
    assert built.facts["training hardware checked"] == "clean"


def flip(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[3] ^= 1
    return base64.b64encode(raw).decode()


def edit_entry(made: Any) -> None:
    made["records"][0]["entry"] = flip(made["records"][0]["entry"])


def edit_index(made: Any) -> None:
    made["records"][1]["index"] = 7


def edit_path(made: Any) -> None:
    made["records"][0]["path"][0] = flip(made["records"][0]["path"][0])


def edit_checkpoint(made: Any) -> None:
    made["checkpoint"] = made["checkpoint"].replace("\n2\n", "\n3\n")


def drop_record(made: Any) -> None:
    made["records"] = []


@pytest.mark.parametrize("tamper", [edit_entry, edit_index, edit_path, edit_checkpoint, drop_record])
async def test_a_tampered_proof_fails_watched_and_all_that_rests_on_it(
    case: Case, tamper: Callable[[Any], None]
) -> None:
    await case.record(**COMPLETE)
    found = case.follow(tamper=tamper)
    assert not found.ok
    assert states(found) == {
        "built": "not_recorded",
        "stored": "verified",
        "run": "failed",
        "reached": "failed",
        "watched": "failed",
    }
    assert link(found, "watched").reason.startswith("the proof does not hold")


async def test_a_proof_under_another_key_fails(case: Case, tmp_path: Path) -> None:
    await case.record(**COMPLETE)
    other = Signer.open(tmp_path / "other")
    found = trace(case.receipt, Proofs(case.log), Manifests(), proof.checker(other.verifier_key))
    assert states(found)["watched"] == "failed"


async def test_a_model_that_is_gone_is_not_recorded_and_no_failure(case: Case) -> None:
    await case.record(**COMPLETE)
    found = case.follow(Manifests(NotFoundError("gone")))
    assert found.ok
    assert (states(found)["built"], states(found)["stored"]) == ("not_recorded", "not_recorded")
    assert link(found, "stored").facts == {"model": "tiny", "digest": DIGEST}


async def test_a_manifest_that_does_not_hold_fails_stored_and_tells_nothing_of_the_making(case: Case) -> None:
    await case.record(**COMPLETE)
    found = case.follow(Manifests(IntegrityError("the signature does not hold")))
    assert not found.ok
    assert (states(found)["built"], states(found)["stored"]) == ("not_recorded", "failed")


async def test_changed_files_fail_stored_only(case: Case) -> None:
    await case.record(**COMPLETE)
    manifests = Manifests()
    manifests.file_error = IntegrityError("tiny.gguf has changed")
    found = case.follow(manifests)
    assert not found.ok
    assert [stage for stage, state in states(found).items() if state == "failed"] == ["stored"]
    assert link(found, "stored").reason == "tiny.gguf has changed"


@pytest.mark.parametrize(("is_full", "words"), [(True, "every byte"), (False, "sampled chunks")])
async def test_the_reason_says_how_much_of_the_files_was_read(case: Case, is_full: bool, words: str) -> None:
    await case.record(**COMPLETE)
    manifests = Manifests()
    assert words in link(case.follow(manifests, is_full=is_full), "stored").reason
    assert manifests.was_full is is_full


async def test_echo_has_no_weights_to_trace(case: Case) -> None:
    await case.record(Decision("local", "here", model="echo", model_digest=DIGEST), **COMPLETE)
    found = case.follow(Manifests(NotFoundError("none")))
    assert found.ok
    assert "echo is a test engine" in link(found, "stored").reason


async def test_a_stored_model_called_echo_is_traced_like_any_other(case: Case) -> None:
    await case.record(Decision("local", "here", model="echo", model_digest=DIGEST), **COMPLETE)
    assert states(case.follow())["stored"] == "verified"


async def test_a_refusal_has_no_model_behind_it(case: Case) -> None:
    await case.record(Decision("refuse", "no", rule="integrity", model="tiny"), outcome="failed", error_code="refused")
    found = case.follow()
    assert found.ok
    assert (states(found)["built"], states(found)["stored"]) == ("not_recorded", "not_recorded")
    assert link(found, "run").facts["error"] == "refused"


async def test_an_answer_still_being_given_has_its_decision_proved_and_no_run(case: Case) -> None:
    await case.record()
    found = case.follow()
    assert (states(found)["run"], states(found)["reached"]) == ("not_recorded", "verified")
    assert link(found, "watched").reason == "the opening record is in the tree that this machine's key signed"


async def test_a_lost_answer_is_on_record_as_lost(case: Case) -> None:
    await case.record(outcome="lost")
    assert link(case.follow(), "run").state == "not_recorded"


@pytest.mark.parametrize("outcome", ["cancelled", "failed"])
async def test_an_answer_that_did_not_end_well_is_verified_as_such(case: Case, outcome: str) -> None:
    await case.record(outcome=outcome)
    run = link(case.follow(), "run")
    assert (run.state, run.facts["outcome"]) == ("verified", outcome)


async def test_an_unknown_receipt_is_not_found(case: Case) -> None:
    with pytest.raises(NotFoundError):
        case.follow()


REMOTE = Decision(
    "remote",
    "asked by name",
    rule="named",
    model="far/big",
    model_digest="remote:sha256:" + "0" * 64,
    provider="far (openai)",
    host="api.example",
)


async def test_a_remote_answer_is_shown_as_one_and_nothing_of_its_making_is_claimed(case: Case) -> None:
    await case.record(
        REMOTE,
        outcome="complete",
        engine="far openai",
        device="api.example",
        usage=Usage(5, 2, source="estimated"),
        sent_digest="sha256:" + "1" * 64,
        sent_bytes=321,
        cost=Cost(0.0125, "EUR"),
    )
    found = case.follow(Manifests(NotFoundError("never asked")))
    assert found.ok
    assert states(found) == {
        "built": "not_recorded",
        "stored": "not_recorded",
        "run": "not_recorded",
        "reached": "verified",
        "watched": "verified",
    }
    links = {link.stage: link for link in found.links}
    assert links["run"].facts["left this machine"].startswith("321 bytes, sha256:1")
    assert links["run"].facts["cost"] == "0.012500 EUR" and links["run"].facts["tokens are"] == "estimated"
    assert links["reached"].facts["host"] == "api.example" and links["reached"].facts["decision"] == "remote"
    assert links["reached"].reason == "the decision was recorded before anything left this machine"


async def test_a_remote_answer_whose_record_is_not_proved_fails(case: Case) -> None:
    await case.record(REMOTE, outcome="complete")
    found = case.follow(tamper=lambda made: made.update(checkpoint=made["checkpoint"].replace("\n2\n", "\n3\n")))
    assert not found.ok and states(found)["reached"] == "failed" and states(found)["run"] == "failed"


async def test_records_from_before_remote_answers_still_decode(case: Case) -> None:
    old = (
        b'{"type":"close","receipt":"rcpt_00000000000000000000000000","at_ns":1,"opened_index":0,"outcome":"complete",'
        b'"answer_digest":null,"engine":"","device":"","usage":null,"timings":{"queued_s":0.0,"loading_s":0.0,'
        b'"prefill_s":0.0,"decode_s":0.0},"finish":[],"num_deltas":0,"error_code":null}'
    )
    closed = msgspec.json.decode(old, type=Closed)
    assert closed.sent_digest is None and closed.cost is None and closed.sent_bytes == 0
