"""What is named goes from everywhere, and nothing else does; keys go first, a record stays, a kill undoes nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.reach.forgetting.conftest import Place

from catena.core.errors import AuditError, InputError, IntegrityError, NotFoundError
from catena.core.messages import Closed, Egress, Opened
from catena.reach.access import Identity
from catena.reach.archive import Kept
from catena.reach.batches import Answered
from catena.reach.forgetting import Target
from catena.reach.forgetting.intent import Intent
from catena.reach.vault import SealedReader

pytestmark = pytest.mark.anyio
WORD = "canary 7f3a"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_text_goes_from_all_that_keeps_content_and_nothing_else_does(
    place: Place,
) -> None:
    burnt = place.say("a", f"I know {WORD}")
    place.say("b", base64.b64encode(WORD.encode()).decode())
    kept = place.say("c", "something else")
    named, holding = place.leave("x", name=f"{WORD}.txt"), place.leave("y" * 100_000 + WORD.upper())
    safe = place.leave("harmless", name="safe.txt")
    by_input, by_note, other = place.add(holding), place.add(safe, note=WORD), place.add(safe)
    place.access.add("canary-7f3a-key")
    (place.home / "backup").mkdir()
    (place.home / "backup" / "old.txt").write_text(f"backup of {WORD}")
    (place.home / "backup" / "other.txt").write_text("nothing")
    target = Target(texts=(WORD, "canary-7f3a"))
    told = await place.forgetting.preview(target)
    assert place.answers() == {"a", "b", "c"} and told.is_dry
    report = await place.forgetting.run(target, "ctn_1")
    assert (report.answers, report.files, report.batches, report.key_names) == (2, 2, 2, 1)
    assert (told.answers, told.files, told.batches, told.others) == (2, 2, 2, report.others)
    assert report.others == ("backup/old.txt",)
    assert report.left == () and report.unreadable == 0 and report.scanned_files > 5
    assert place.answers() == {"c"}
    assert [file.id for file in place.files.each()] == [safe]
    assert [batch.id for batch in place.batches.each()] == [other.id] != [by_input.id, by_note.id]
    assert not place.files.path(named).exists()
    assert place.access.rows()[0].name == place.access.rows()[0].id
    assert (place.home / "backup" / "other.txt").exists() and not (place.home / "backup" / "old.txt").exists()
    assert place.unloaded == 1
    with pytest.raises(NotFoundError, match="destroyed"):
        place.signer.salt(burnt)
    assert place.signer.salt(kept)
    assert WORD.encode() not in place.bytes_on_disk()


async def test_copies_of_what_went_open_nowhere(place: Place, tmp_path: Path) -> None:
    place.say("a", WORD)
    [(body,)] = place.archive._open().read("SELECT body FROM answers")
    path = place.files.path(place.leave(WORD))
    copy = path.read_bytes()
    await place.forgetting.run(Target(texts=(WORD,)))
    with pytest.raises(NotFoundError):
        place.vault.open_sealed("answer", "a\nlocal", body)
    (tmp_path / "copy").write_bytes(copy)
    with pytest.raises(NotFoundError):
        SealedReader(tmp_path / "copy", place.vault, "file", path.name)


async def test_a_conversation_goes_with_all_its_turns_and_branches(place: Place) -> None:
    place.say("a1", "one")
    place.say("a2", "two", "a1")
    place.say("a3", "three", "a2")
    place.say("branch", "other", "a1")
    place.say("after", "later", "gone")
    place.say("before", "later still", "gone")
    place.say("else", "else")
    for id, rest in (("a3", {"after", "before", "else"}), ("after", {"else"})):
        await place.forgetting.run(Target(conversations=(id,)))
        assert place.answers() == rest
    assert (await place.forgetting.run(Target(conversations=("unknown",)))).num_items == 0


async def test_all_that_a_key_left_goes(place: Place) -> None:
    for owner in ("ctn_00000001", "local"):
        place.say(f"a {owner}", "x", owner=owner)
        place.add(place.leave("x", owner=owner), owner=owner)
    report = await place.forgetting.run(Target(keys=("ctn_00000001",)))
    assert (report.answers, report.files, report.batches) == (1, 1, 1)
    assert place.answers() == {"a local"}
    assert {file.owner for file in place.files.each()} == {batch.owner for batch in place.batches.each()} == {"local"}


async def test_copies_of_what_left_go_by_their_text_and_by_their_receipt(place: Place) -> None:
    receipt = place.say("a", WORD)
    digest = "sha256:" + "a" * 64
    records = [Egress(name, 1, 0, 1, digest, 1, "h") for name in (receipt, f"rcpt_{'1':0>26}", f"rcpt_{'2':0>26}")]
    for record, data in zip(records, (b"of the answer", WORD.encode().hex().encode(), b"else"), strict=True):
        await place.shelf.keep(record, data)
    assert (await place.forgetting.run(Target(texts=(WORD,)))).departures == 2
    for record in records[:2]:
        with pytest.raises(NotFoundError):
            place.shelf.read(record)
    assert place.shelf.read(records[2]) == b"else"


async def test_a_record_stays_that_says_how_much_and_never_what(place: Place) -> None:
    place.say("a", WORD)
    report = await place.forgetting.run(Target(texts=(WORD,)), "ctn_1")
    opened, closed = place.log.records
    assert isinstance(opened, Opened) and isinstance(closed, Closed)
    assert (opened.receipt, opened.caller, opened.door, opened.task) == (
        report.receipt,
        "ctn_1",
        "catena.forget",
        "forget",
    )
    assert opened.decision.reason == "to be forgotten: 1 texts"
    assert (closed.outcome, closed.answer_digest is not None) == ("complete", True)
    assert WORD not in str(place.log.records)


async def test_what_was_broken_off_anywhere_is_finished_by_the_next_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ["archive.burn", "files.burn", "batches.burn", "shelf.burn", "archive.drop", "batches.drop", "files.drop"]
    steps += ["signer.burn_salts", "forgetting._clear_prompts"]
    for number, step in enumerate(steps):
        place.say(f"a{number}", WORD)
        file_id = place.leave(WORD)
        place.add(file_id)
        part, name = step.split(".")
        owner = getattr(place, part)

        def broken(*_: Any) -> Any:
            raise AuditError("the power went")

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            with pytest.raises(AuditError):
                await place.forgetting.run(Target(texts=(WORD,)))
        intent = Intent(place.home, place.vault)
        assert intent.read() == Target(texts=(WORD,)), step
        assert WORD.encode() not in (place.home / "forgetting").read_bytes()
        assert (await place.forgetting.resume()) is not None
        assert place.answers() == set() and place.files.each() == [] and place.batches.each() == [], step
        assert place.table.read("SELECT 1 FROM batches") == [], step
        assert not (place.home / "forgetting").exists()
        assert await place.forgetting.resume() is None


async def test_a_note_whose_key_is_gone_means_nothing_and_a_changed_one_is_refused(place: Place) -> None:
    intent = Intent(place.home, place.vault)
    intent.write(Target(texts=(WORD,)))
    whole = (place.home / "forgetting").read_bytes()
    (place.home / "forgetting").write_bytes(whole[:-1] + b"x")
    with pytest.raises(IntegrityError):
        await place.forgetting.resume()
    (place.home / "forgetting").write_bytes(whole)
    intent.end()
    (place.home / "forgetting").write_bytes(whole)
    assert await place.forgetting.resume() is None
    assert not (place.home / "forgetting").exists()


async def test_a_batch_that_runs_is_stopped_first_and_what_it_brought_goes_too(place: Place) -> None:
    lines = [
        {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions", "body": {"say": WORD}}
        for number in range(50)
    ]
    batch = place.add(place.leave("\n".join(map(json.dumps, lines))))
    asked: list[bytes] = []

    async def ask(path: str, body: bytes, identity: Identity) -> Answered:
        asked.append(body)
        await anyio.sleep(0.02)
        return Answered(200, {}, b'{"something":"else"}')

    async with anyio.create_task_group() as group:
        group.start_soon(place.runner.run, ask)
        while len(asked) < 5:  # noqa: ASYNC110 - it is another's work
            await anyio.sleep(0.01)
        report = await place.forgetting.run(Target(texts=(WORD,)))
        assert not place.runner.is_running(batch.id)
        group.cancel_scope.cancel()
    assert len(asked) < 50
    assert report.batches == 1
    assert place.files.each() == [] and place.batches.each() == []
    assert not (place.home / "batches" / batch.id).exists()


async def test_what_was_changed_is_told_as_unreadable_and_settings_as_left(place: Place) -> None:
    place.say("a", WORD)
    place.archive._open().write("UPDATE answers SET owner = 'you'")
    (place.home / "policy.toml").write_text(f"# {WORD}")
    report = await place.forgetting.run(Target(texts=(WORD,)))
    assert report.unreadable == 1
    assert [(left.path, left.texts) for left in report.left] == [("policy.toml", (1,))]


async def test_a_target_that_names_nothing_or_too_little_begins_nothing(place: Place) -> None:
    for target in (Target(), Target(texts=("ab",))):
        with pytest.raises(InputError):
            await place.forgetting.run(target)
    assert place.log.records == []
    assert not (place.home / "forgetting").exists()


async def test_what_comes_in_meanwhile_is_found_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.say("a", WORD)
    drop, left = place.archive.drop, ["b", "c"]

    def slow(ids: Any) -> int:
        if left:
            place.archive._put(Kept(left.pop(), "local", WORD.encode(), b"[]"))
        return drop(ids)

    monkeypatch.setattr(place.archive, "drop", slow)
    assert (await place.forgetting.run(Target(texts=(WORD,)))).answers == 3
    assert place.answers() == set()
