"""What a key may see and do at the door."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.reach.gateway.conftest import Door


@pytest.mark.anyio
async def test_a_key_sees_its_own_receipts_and_with_the_scope_audit_all(make_door: Callable[..., Door]) -> None:
    door = make_door()
    _, plain = door.access.add("plain")
    _, auditor = door.access.add("auditor", ["ask", "audit"])
    foreign = f"/catena/v1/receipts/{door.log.receipts[1]}"
    assert (await door.get(foreign, headers={"x-api-key": plain})).status == 404
    assert (await door.get(foreign, headers={"x-api-key": auditor})).status == 200
    listed = (await door.get("/catena/v1/receipts", headers={"x-api-key": plain})).json
    assert listed["receipts"] == []


@pytest.mark.anyio
async def test_a_key_without_the_scope_may_not_ask(make_door: Callable[..., Door]) -> None:
    door = make_door()
    _, key = door.access.add("prometheus", ["metrics"])
    response = await door.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    assert (response.status, response.error["type"]) == (403, "permission_error")


@pytest.mark.anyio
async def test_the_caller_of_a_request_is_its_key(make_door: Callable[..., Door]) -> None:
    door = make_door()
    row, key = door.access.add("laptop")
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    await door.post("/v1/chat/completions", body, headers={"authorization": f"Bearer {key}"})
    assert door.script.callers[0].key == row.id
