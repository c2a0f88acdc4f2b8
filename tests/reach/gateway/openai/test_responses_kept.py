"""Kept responses: shown, continued, listed, deleted; and those made in the background."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.reach.gateway.conftest import Door
from tests.reach.gateway.openai.conftest import ASK, PATH, Maker, at_work, checked, events, response_of

from catena.core.errors import EngineError
from catena.core.messages import Delta, Finished, Message, Text, Usage
from catena.reach.gateway import telemetry

pytestmark = pytest.mark.anyio
LATER = {**ASK, "background": True}


async def made(door: Door, **change: Any) -> Any:
    """A response made at once."""
    reply = await door.post(PATH, {**ASK, **change})
    assert reply.status == 200, reply.body
    return reply.json


async def ended(door: Door, id: str) -> Any:
    """The response when it is no longer being made."""
    with anyio.fail_after(5):
        while True:
            found = (await door.get(f"{PATH}/{id}")).json
            if found["status"] not in ("queued", "in_progress"):
                return found
            await anyio.sleep(0.005)


async def test_a_response_is_shown_as_it_was_answered(door: Door) -> None:
    answer = await made(door)
    assert (await door.get(f"{PATH}/{answer['id']}")).json == answer


async def test_a_response_that_is_not_to_be_kept_is_not(door: Door) -> None:
    answer = await made(door, store=False)
    reply = await door.get(f"{PATH}/{answer['id']}")
    assert (reply.status, reply.error["code"]) == (404, "not_found")


async def test_a_response_goes_on_from_the_one_before_it_and_all_before_that(door: Door) -> None:
    first = await made(door, input="one", instructions="be brief")
    second = await made(door, input="two", previous_response_id=first["id"])
    await made(door, input="three", previous_response_id=second["id"], instructions="be long")
    assert door.script.asked[2].messages == (  # type: ignore[union-attr]
        Message("system", (Text("be long"),)),
        Message("user", (Text("one"),)),
        Message("assistant", (Text("Hello world"),)),
        Message("user", (Text("two"),)),
        Message("assistant", (Text("Hello world"),)),
        Message("user", (Text("three"),)),
    )


async def test_a_conversation_whose_beginning_was_deleted_is_refused(door: Door) -> None:
    first = await made(door)
    second = await made(door, previous_response_id=first["id"])
    assert (await door.ask("DELETE", f"{PATH}/{first['id']}")).status == 200
    for id in (first["id"], second["id"], "resp_nope"):
        reply = await door.post(PATH, {**ASK, "previous_response_id": id})
        assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
        assert reply.error["code"] == "previous_response_not_found"


async def test_only_a_response_with_an_end_of_its_own_is_gone_on_from(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), EngineError("it broke")]
    failed = events((await door.post(PATH, {**ASK, "stream": True})).body)[-2]["response"]
    reply = await door.post(PATH, {**ASK, "previous_response_id": failed["id"]})
    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")


async def test_a_reference_stands_for_the_item_of_a_kept_response(door: Door) -> None:
    first = await made(door, input="one")
    items = (await door.get(f"{PATH}/{first['id']}/input_items")).json["data"]
    given = [{"type": "item_reference", "id": items[0]["id"]}, {"id": first["output"][0]["id"]}]
    await made(door, input=[*given, {"role": "user", "content": "two"}])
    assert [message.role for message in door.script.asked[1].messages] == ["user", "assistant", "user"]  # type: ignore[union-attr]


async def test_the_items_of_a_question_are_listed_in_pages(door: Door) -> None:
    given = [{"role": "user", "content": str(number)} for number in range(5)]
    answer = await made(door, input=given)
    path = f"{PATH}/{answer['id']}/input_items"
    newest = (await door.get(path)).json
    assert [item["content"][0]["text"] for item in newest["data"]] == ["4", "3", "2", "1", "0"]
    assert (newest["has_more"], newest["object"]) == (False, "list")
    page = (await door.get(f"{path}?order=asc&limit=2")).json
    assert [item["content"][0]["text"] for item in page["data"]] == ["0", "1"]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, page["data"][0]["id"], page["data"][1]["id"])
    rest = (await door.get(f"{path}?order=asc&after={page['last_id']}")).json
    assert [item["content"][0]["text"] for item in rest["data"]] == ["2", "3", "4"]
    assert (await door.get(f"{path}?after=msg_x")).error["param"] == "after"
    assert (await door.get(f"{path}?limit=101")).error["param"] == "limit"
    assert (await door.get(f"{path}?order=up")).error["param"] == "order"


async def test_a_deleted_response_is_gone(door: Door) -> None:
    answer = await made(door)
    reply = await door.ask("DELETE", f"{PATH}/{answer['id']}")
    assert reply.json == {"id": answer["id"], "object": "response", "deleted": True}
    assert (await door.get(f"{PATH}/{answer['id']}")).status == 404
    assert (await door.ask("DELETE", f"{PATH}/{answer['id']}")).status == 404


async def test_a_response_belongs_to_the_key_that_made_it(make_door: Maker) -> None:
    door = make_door()
    keys = [{"authorization": f"Bearer {door.access.add(name)[1]}"} for name in ("one", "two")]
    answer = (await door.post(PATH, ASK, headers=keys[0])).json
    path = f"{PATH}/{answer['id']}"
    assert (await door.get(path, headers=keys[0])).status == 200
    for method, place in (("GET", path), ("DELETE", path), ("POST", f"{path}/cancel"), ("GET", f"{path}/input_items")):
        assert (await door.ask(method, place, headers=keys[1])).status == 404
    reply = await door.post(PATH, {**ASK, "previous_response_id": answer["id"]}, headers=keys[1])
    assert reply.error["code"] == "previous_response_not_found"
    given = [{"type": "item_reference", "id": answer["output"][0]["id"]}]
    assert (await door.post(PATH, {**ASK, "input": given}, headers=keys[1])).status == 404
    assert (await door.get(path, headers=keys[0])).status == 200


async def test_a_response_in_the_background_is_queued_recorded_and_kept_at_once(door: Door) -> None:
    release = anyio.Event()
    door.script.events = [release.wait, Delta(text="Hi"), Finished(0, "stop"), Usage(1, 1)]
    async with at_work(door):
        reply = await door.post(PATH, LATER)
        answer = response_of(reply.json)
        assert (answer["status"], answer["background"], answer["output"]) == ("queued", True, [])
        assert answer["id"] == "resp_" + reply.headers["catena-receipt"].removeprefix("rcpt_")
        assert (await door.get(f"{PATH}/{answer['id']}")).json["status"] == "queued"
        release.set()
        done = response_of(await ended(door, answer["id"]))
    assert (done["status"], done["output"][0]["content"][0]["text"]) == ("completed", "Hi")
    assert (await door.get(f"{PATH}/{answer['id']}")).json == done


async def test_tokens_of_the_background_are_counted(door: Door) -> None:
    def spent() -> float:
        lines = telemetry.exposition().decode().splitlines()
        found = [line for line in lines if line.startswith("catena_reach_tokens_total{") and "completion" in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    before = spent()
    async with at_work(door):
        await ended(door, (await door.post(PATH, LATER)).json["id"])
    assert spent() == before + 2


async def test_what_is_made_in_the_background_can_be_seen_growing(door: Door) -> None:
    grown, release = anyio.Event(), anyio.Event()

    async def grow() -> None:
        grown.set()
        await release.wait()

    door.script.events = [Delta(text="Hel"), grow, Delta(text="lo"), Finished(0, "stop")]
    async with at_work(door):
        answer = (await door.post(PATH, LATER)).json
        await grown.wait()
        now = response_of((await door.get(f"{PATH}/{answer['id']}")).json)
        assert (now["status"], now["output"][0]["status"]) == ("in_progress", "in_progress")
        assert now["output"][0]["content"][0]["text"] == "Hel"
        reply = await door.post(PATH, {**ASK, "previous_response_id": answer["id"]})
        assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
        release.set()
        assert (await ended(door, answer["id"]))["status"] == "completed"


async def test_a_stream_of_the_background_tells_of_the_queue_and_can_be_resumed(door: Door) -> None:
    async with at_work(door):
        whole = (await door.post(PATH, {**LATER, "stream": True})).body
    found = checked(whole)
    assert [event["type"] for event in found[:3]] == ["response.created", "response.queued", "response.in_progress"]
    id = found[0]["response"]["id"]
    assert (await door.get(f"{PATH}/{id}?stream=true")).body == whole
    rest = events((await door.get(f"{PATH}/{id}?stream=true&starting_after=4")).body)
    assert rest == found[5:]
    assert (await door.get(f"{PATH}/{id}?starting_after=4")).error["param"] == "starting_after"
    assert (await door.get(f"{PATH}/{id}?stream=perhaps")).error["param"] == "stream"


async def test_who_follows_and_leaves_stops_nothing_and_may_come_back(door: Door) -> None:
    release = anyio.Event()
    door.script.events = [Delta(text="Hel"), release.wait, Delta(text="lo"), Finished(0, "stop"), Usage(1, 1)]
    async with at_work(door):
        body = (await door.post(PATH, {**LATER, "stream": True}, leave_after=1)).body
        first = events(body)
        id = first[0]["response"]["id"]
        async with anyio.create_task_group() as group:
            rest: list[Any] = []

            async def follow() -> None:
                path = f"{PATH}/{id}?stream=true&starting_after={first[-1]['sequence_number']}"
                rest.extend(events((await door.get(path)).body))

            group.start_soon(follow)
            group.start_soon(follow)
            await anyio.sleep(0.02)
            release.set()
    assert rest[: len(rest) // 2] == rest[len(rest) // 2 :]
    told = [*first, *rest[: len(rest) // 2]]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == "Hello"


async def test_only_a_stream_of_the_background_can_be_followed(door: Door) -> None:
    answer = await made(door)
    assert (await door.get(f"{PATH}/{answer['id']}?stream=true")).error["param"] == "stream"


async def test_cancelling_stops_the_work_and_is_told_to_followers(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), anyio.sleep_forever]
    async with at_work(door):
        answer = (await door.post(PATH, {**LATER, "stream": True}, leave_after=1)).body
        id = events(answer)[0]["response"]["id"]
        followed: list[Any] = []

        async def follow() -> None:
            followed.extend(events((await door.get(f"{PATH}/{id}?stream=true")).body))

        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await anyio.sleep(0.02)
            reply = await door.post(f"{PATH}/{id}/cancel", None)
    cancelled = response_of(reply.json)
    assert (cancelled["status"], cancelled["output"][0]["status"]) == ("cancelled", "incomplete")
    assert door.script.outcomes == ["cut CancelledError"]
    assert (followed[-1]["type"], followed[-1]["code"]) == ("error", "cancelled")
    assert (await door.post(f"{PATH}/{id}/cancel", None)).json == cancelled
    assert (await door.get(f"{PATH}/{id}")).json == cancelled


async def test_only_work_in_the_background_can_be_cancelled(door: Door) -> None:
    answer = await made(door)
    assert (await door.post(f"{PATH}/{answer['id']}/cancel", None)).status == 400
    assert (await door.post(f"{PATH}/resp_nope/cancel", None)).status == 404


async def test_deleting_what_is_being_made_cancels_it(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), anyio.sleep_forever]
    async with at_work(door):
        id = (await door.post(PATH, LATER)).json["id"]
        assert (await door.ask("DELETE", f"{PATH}/{id}")).status == 200
        assert door.script.outcomes == ["cut CancelledError"]
        assert (await door.get(f"{PATH}/{id}")).status == 404


async def test_work_that_breaks_has_failed_and_says_why(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), EngineError("it broke")]
    async with at_work(door):
        answer = (await door.post(PATH, LATER)).json
        failed = response_of(await ended(door, answer["id"]))
    assert (failed["status"], failed["error"]) == ("failed", {"code": "server_error", "message": "it broke"})


async def test_work_that_cannot_begin_is_an_error_at_once(door: Door) -> None:
    async with at_work(door):
        reply = await door.post(PATH, {**LATER, "model": "nope"})
        assert (reply.status, reply.error["param"]) == (404, "model")
    assert door.app.services.background.works == ()


async def test_work_over_its_time_has_failed(make_door: Maker) -> None:
    door = make_door(background_timeout_s=0.05)
    door.script.events = [anyio.sleep_forever]
    async with at_work(door):
        answer = (await door.post(PATH, LATER)).json
        failed = await ended(door, answer["id"])
    assert failed["status"] == "failed"
    assert "longer than" in failed["error"]["message"]


async def test_a_key_may_have_so_many_in_the_background_and_another_key_too(make_door: Maker) -> None:
    door = make_door(max_background=2)
    keys = [{"authorization": f"Bearer {door.access.add(name)[1]}"} for name in ("one", "two")]
    door.script.events = [anyio.sleep_forever]
    async with at_work(door):
        for _ in range(2):
            assert (await door.post(PATH, LATER, headers=keys[0])).status == 200
        reply = await door.post(PATH, LATER, headers=keys[0])
        assert (reply.status, reply.error["type"]) == (429, "rate_limit_error")
        assert int(reply.headers["retry-after"]) >= 1
        assert (await door.post(PATH, LATER, headers=keys[1])).status == 200


async def test_a_gateway_that_stops_leaves_its_work_as_failed(make_door: Maker) -> None:
    door, next_door = make_door(), make_door()
    door.script.events = [Delta(text="Hel"), anyio.sleep_forever]
    async with at_work(door):
        answer = (await door.post(PATH, LATER)).json
        await anyio.sleep(0.01)
        door.app.stop()
        with anyio.fail_after(5):
            await door.app.services.background.idle()
    failed = response_of((await next_door.get(f"{PATH}/{answer['id']}")).json)
    assert (failed["status"], failed["output"][0]["status"]) == ("failed", "incomplete")
    assert door.script.outcomes == ["cut CancelledError"]


async def test_draining_waits_for_the_background(make_door: Maker) -> None:
    door = make_door()
    release = anyio.Event()
    door.script.events = [release.wait, Finished(0, "stop")]
    async with at_work(door):
        answer = (await door.post(PATH, LATER)).json
        with anyio.move_on_after(0.05) as patience:
            await door.app.idle()
        assert patience.cancelled_caught
        release.set()
        with anyio.fail_after(5):
            await door.app.idle()
        assert (await door.get(f"{PATH}/{answer['id']}")).json["status"] == "completed"


async def test_work_whose_gateway_died_has_failed_at_the_next_start(make_door: Maker) -> None:
    dying, next_door = make_door(), make_door()
    dying.script.events = [Delta(text="Hel"), anyio.sleep_forever]
    archive, next_archive = dying.app.services.archive, next_door.app.services.archive
    assert archive is not None
    assert next_archive is not None

    async def nothing(kept: Any) -> None:
        """A process that is killed keeps no end."""

    archive.settle = nothing  # type: ignore[method-assign]
    async with at_work(dying):
        plain = (await dying.post(PATH, LATER)).json
        body = (await dying.post(PATH, {**LATER, "stream": True}, leave_after=1)).body
        streamed = events(body)[0]["response"]
    next_archive.recover()
    for answer in (plain, streamed):
        failed = response_of((await next_door.get(f"{PATH}/{answer['id']}")).json)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    rest = events((await next_door.get(f"{PATH}/{streamed['id']}?stream=true&starting_after=7")).body)
    assert [event["type"] for event in rest] == ["response.failed", "error"]
    assert rest[0]["sequence_number"] == 8


async def test_without_a_server_nothing_begins_in_the_background(door: Door) -> None:
    reply = await door.post(PATH, LATER)
    assert (reply.status, reply.error["code"]) == (503, "shutting_down")
