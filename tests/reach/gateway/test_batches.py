"""Whatever is asked of files, batches and tokens, the answer is no failure of ours; without a place for them, 501."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Script
from tests.reach.gateway.test_fuzz import ANYTHING, check

from catena.core.messages import Decision, Tokens
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.batches import Batches, Files, Runner
from catena.reach.gateway.application import create
from catena.reach.gateway.protocols.openai import fields
from catena.reach.router import TokensAnswer
from catena.store.database import Database

TYPE = {"content-type": "multipart/form-data; boundary=X"}
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Speller(Script):
    """A router whose tokens are letters."""

    async def tokenise(self, request: Any, caller: Any) -> TokensAnswer:
        receipt = self._open(request, caller)
        text = getattr(request, "text", None)
        if isinstance(text, str):
            found: Any = Tokens(tuple(map(ord, text)), tuple(letter.encode(errors="replace") for letter in text))
        else:
            found = "text" if text is None else Tokens((1,), (b"\xff",))
        return TokensAnswer(receipt, Decision("local", "test"), MODEL, found, 128)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway with files and batches, which nobody works off, and a file for a batch."""
    home: Path = tmp_path_factory.mktemp("batches")
    database = Database(home / "catena.db")
    files = Files(database, home / "files", max_files=10_000, max_bytes=1 << 30)
    access = Access(database)
    runner = Runner(Batches(database, home / "batches"), files, access, ReachSettings())
    script = Speller()
    yield Door(create(script, ReachSettings(), access, models=lambda: [], runner=runner), script, access, Log())
    database.close()


@pytest.fixture(scope="module")
def good(door: Door) -> dict[str, dict[str, Any]]:
    """A right body for each route."""
    form = b'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    form += b'--X\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n{}\r\n--X--\r\n'
    file = anyio.run(lambda: door.post("/v1/files", form, headers=TYPE)).json
    return {
        "POST /v1/batches": {
            "input_file_id": file["id"],
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
        },
        "POST /tokenize": {"model": "tiny", "prompt": "hi"},
        "POST /tokenize as llama.cpp's server has it": {"model": "tiny", "content": "hi"},
        "POST /detokenize": {"model": "tiny", "tokens": [1]},
    }


ROUTES = st.sampled_from(
    ["POST /v1/batches", "POST /tokenize", "POST /tokenize as llama.cpp's server has it", "POST /detokenize"]
)


@QUICK
@given(ROUTES, st.data())
def test_any_values_of_known_parameters(door: Door, good: dict[str, Any], route: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(fields.TABLES[route]))
    change = data.draw(st.dictionaries(names, ANYTHING, min_size=1, max_size=3))
    body = json.dumps({**good[route], **change}).encode()
    response = anyio.run(lambda: door.post(route.split()[1], body))
    assert response.status != 429 or route == "POST /v1/batches"
    check(response)


PATHS = st.sampled_from(
    ["/v1/files", "/v1/files/{}", "/v1/files/{}/content", "/v1/batches", "/v1/batches/{}", "/v1/batches/{}/cancel"]
)
NAMES = st.text("abc%2F./_-0é", max_size=12) | st.sampled_from(["..", "%2e%2e", "drafts", "%00"])

QUERIES = st.dictionaries(
    st.sampled_from(["after", "limit", "order", "purpose"]), NAMES | st.integers().map(str), max_size=2
)


@QUICK
@given(
    PATHS,
    st.sampled_from(["GET", "POST", "DELETE"]),
    NAMES,
    st.dictionaries(
        st.sampled_from(["after", "limit", "order", "purpose"]), NAMES | st.integers().map(str), max_size=2
    ),
    st.text("bytes=-0189,", max_size=20),
)
def test_any_address_query_and_range(
    door: Door, path: str, method: str, name: str, query: dict[str, str], span: str
) -> None:
    address = f"{path.format(name)}?{'&'.join(f'{key}={value}' for key, value in query.items())}"
    sent = address.encode("ascii", "replace").decode()
    check(anyio.run(lambda: door.ask(method, sent, headers={"range": span})))


def test_without_a_place_for_them_files_and_batches_are_not_served() -> None:
    script, access = Script(), Access(Memory())
    door = Door(create(script, ReachSettings(), access, models=lambda: []), script, access, Log())
    for path in ("/v1/files", "/v1/batches"):
        response = anyio.run(lambda path=path: door.get(path))
        assert (response.status, response.error["code"]) == (501, "unsupported")
