"""Whatever is sent to the Responses routes, the answer is a response, or an error in the shape of the API.

Usage, for more than the suite asks: python -m tests.reach.gateway.openai.test_responses_fuzz [number of bodies]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from tests.reach.gateway.bending import bent
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script
from tests.reach.gateway.openai.conftest import ADD, ASK, PATH, checked, response_of

from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.archive import Archive
from catena.reach.gateway.application import create
from catena.reach.gateway.protocols.openai.responses import fields
from catena.store.database import Database

NUM_BODIES = 1000
TYPES = {"invalid_request_error", "server_error", "rate_limit_error"}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "low"}
# One body with everything in it, from which the others are bent.
FULL: dict[str, Any] = {
    **ASK,
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}, PICTURE]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "content": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "3"}]},
        {"role": "developer", "content": "be brief"},
    ],
    "instructions": "Be short.",
    "tools": [ADD],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "include": ["message.output_text.logprobs"],
    "metadata": {"a": "b"},
    "max_output_tokens": 9,
    "temperature": 0.5,
    "store": True,
    "stream": False,
}
NAMES = [*fields.CREATE, *fields.FUNCTION, *fields.REASONING, *fields.TEXT, "type", "id", "content", "colour"]
VALUES: list[Any] = [
    *fields.ITEMS, *fields.PARTS, *fields.TOOLS, *fields.INCLUDE, "message", "required", "resp_1", {"id": "resp_1"},
    {"type": "function", "name": "add"}, {"type": "item_reference", "id": "msg_1_0"}, "data:image/png;base64,",
    {"type": "json_schema", "name": "x", "schema": {}},
]  # fmt: skip


def new_door(folder: Path) -> Door:
    """A gateway of its own that says hello and keeps it."""
    script = Script()
    rows = [Row("tiny", MODEL.digest, (), MODEL.manifest)]
    archive = Archive(lambda: Database(folder / "responses.db"), keep_s=60, max_bytes=1 << 20)
    app = create(script, ReachSettings(), Access(Memory()), models=lambda: rows, archive=archive)
    return Door(app, script, Access(Memory()), Log())


def check(reply: Any) -> str:
    """A response, or an error of the caller in the shape of the API; tells which."""
    if reply.status == 200:
        if reply.headers["content-type"].startswith("text/event-stream"):
            checked(reply.body)
        elif reply.json["object"] == "response":
            response_of(reply.json)
        else:
            assert reply.json.keys() == {"object", "input_tokens"}
        return "answered"
    assert 400 <= reply.status < 500, reply.body
    assert reply.error["type"] in TYPES
    assert reply.error["message"]
    return f"{reply.status} {reply.error['code']}"


def near(path: str, source: random.Random) -> bytes:
    """A body that is nearly good for `path`."""
    taken = fields.COUNT if path.endswith("input_tokens") else fields.CREATE
    body = {name: value for name, value in FULL.items() if name in taken}
    if "stream" in body:
        body["stream"] = source.random() < 0.1
    return bent(body, source, names=NAMES, values=VALUES)


async def fuzz(num_bodies: int, seed: int) -> Counter[str]:
    """Send `num_bodies` bent bodies; how many ended how."""
    found: Counter[str] = Counter()
    source = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        door = new_door(Path(folder))
        async with door.app.services.background.running():
            for index in range(num_bodies):
                path = f"{PATH}/input_tokens" if index % 4 == 3 else PATH
                raw = near(path, source)
                try:
                    found[check(await door.post(path, raw))] += 1
                except BaseException:
                    print(raw)
                    raise
                for gathered in (door.script.asked, door.script.callers, door.script.outcomes):
                    gathered.clear()
    return found


def test_bent_bodies_are_answered_or_refused_in_the_shape_of_the_api() -> None:
    found = anyio.run(fuzz, NUM_BODIES, 7)
    assert sum(found.values()) == NUM_BODIES
    assert found["answered"] > NUM_BODIES // 20
    assert {"400 invalid_json", "400 unknown_parameter", "400 unsupported", "400 invalid_input"} <= set(found)


async def _odd_addresses(num: int, seed: int) -> Counter[str]:
    """Ids, pages and numbers of the kept as nobody would write them."""
    source = random.Random(seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        door = new_door(Path(folder))
        known = (await door.post(PATH, ASK)).json["id"]
        ids = [known, "resp_", "resp_%00", "%2e%2e", "resp_" + "a" * 999, "msg_1", "%ff", "'--", known + "/"]
        odd = ["", "-1", "0", "1", "1e3", "99999999999", "true", "perhaps", "%00", "é", known, "asc", "desc"]
        names = ["stream", "starting_after", "limit", "after", "order", "include", "include[]", "x"]
        for _ in range(num):
            query = "&".join(f"{source.choice(names)}={source.choice(odd)}" for _ in range(source.randrange(4)))
            end = source.choice(["", "/input_items", "/cancel", "/nothing"])
            method = source.choice(["GET", "POST", "PUT", "HEAD"])
            reply = await door.ask(method, f"{PATH}/{source.choice(ids)}{end}?{query}")
            assert 200 <= reply.status < 500, reply.body
            if reply.status >= 400 and reply.body:
                assert reply.error["message"]
                assert reply.error["type"] in TYPES
            found[str(reply.status)] += 1
    return found


def test_odd_addresses_are_answered_or_refused_in_the_shape_of_the_api() -> None:
    found = anyio.run(_odd_addresses, 600, 3)
    assert {"200", "400", "404", "405"} <= set(found)


if __name__ == "__main__":
    for how, count in anyio.run(fuzz, int(sys.argv[1]) if len(sys.argv) > 1 else NUM_BODIES, 1).most_common():
        print(f"{count:8} {how}")
