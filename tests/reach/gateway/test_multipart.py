"""Forms with files: read in any pieces, bounded in everything, and nothing left behind when they are not right."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import Door, Log, Memory, Script

from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway import multipart
from catena.reach.gateway.application import create
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import NATIVE, answer_json
from catena.reach.gateway.routing import Route

pytestmark = pytest.mark.anyio
TYPE = {"content-type": "multipart/form-data; boundary=XYZ"}
FILE = b'--XYZ\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
FIELD = b'--XYZ\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
END = b"\r\n--XYZ--\r\n"
GOOD = FIELD + b"batch\r\n" + FILE + b"line 1\r\n--XY is no boundary\r\nline 3" + END


def files(folder: Path) -> list[Path]:
    """What lies in a folder."""
    return list(folder.iterdir())


def door(folder: Path, **limits: int) -> Door:
    """A gateway that reads forms into `folder` at /form and tells what it read."""
    bounds = {"max_field_bytes": 100, "max_file_bytes": 1000, **limits}

    async def handle(exchange: Exchange) -> None:
        async with multipart.read_form(exchange, folder=folder, **bounds) as form:
            found = {
                name: [one.filename, one.content_type, one.size_bytes, one.path.read_bytes().decode("latin-1")]
                for name, one in form.files.items()
            }
            await answer_json(exchange, {"fields": form.fields, "files": found})

    script, access = Script(), Access(Memory())
    route = Route("POST", "/form", handle, "ask", NATIVE)
    return Door(create(script, ReachSettings(), access, models=lambda: [], routes=[route]), script, access, Log())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_a_form_is_read_the_same_in_pieces_of_any_size(tmp_path: Path, size: int) -> None:
    pieces = [GOOD[start : start + size] for start in range(0, len(GOOD), size)]
    response = await door(tmp_path).post("/form", None, headers=TYPE, pieces=pieces)
    assert response.status == 200
    text = "line 1\r\n--XY is no boundary\r\nline 3"
    assert response.json == {
        "fields": {"purpose": ["batch"]},
        "files": {"file": ["a.txt", "text/plain", len(text), text]},
    }
    assert files(tmp_path) == []


async def test_a_form_of_a_real_client_is_read_with_names_beyond_ascii(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3
    request = httpx2.Request(
        "POST", "http://localhost/", data={"a": ["1", "zwei ü"]}, files={"file": ("名.bin", data, "x/y")}
    )
    response = await door(tmp_path).post(
        "/form", request.read(), headers={"content-type": request.headers["content-type"]}
    )
    assert response.json["fields"] == {"a": ["1", "zwei ü"]}
    assert response.json["files"]["file"] == ["名.bin", "x/y", 768, data.decode("latin-1")]


async def test_a_file_larger_than_a_piece_in_memory_arrives_whole(tmp_path: Path) -> None:
    data = b"0123456789abcde\n" * (3 << 16)
    pieces = [FILE, *(data[start : start + 65536] for start in range(0, len(data), 65536)), END]
    response = await door(tmp_path, max_file_bytes=4 << 20).post("/form", None, headers=TYPE, pieces=pieces)
    assert response.json["files"]["file"][2:] == [len(data), data.decode()]


MANY = b"".join(b'--XYZ\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n\r\n' % n for n in range(65)) + b"--XYZ--"
BAD: dict[str, tuple[bytes, int, str]] = {
    "cut": (GOOD[:-10], 400, "invalid_form"),
    "empty": (b"", 400, "invalid_form"),
    "not a form": (b"hello", 400, "invalid_form"),
    "no name": (b"--XYZ\r\nContent-Disposition: form-data\r\n\r\nx" + END, 400, "invalid_form"),
    "another disposition": (b'--XYZ\r\nContent-Disposition: file; name="x"\r\n\r\nx' + END, 400, "invalid_form"),
    "field not UTF-8": (FIELD + b"\xff" + END, 400, "invalid_form"),
    "field too large": (FIELD + b"x" * 101 + END, 413, "too_large"),
    "file too large": (FILE + b"x" * 1001 + END, 413, "too_large"),
    "two files": (FILE + b"\r\n" + FILE.replace(b'"file"', b'"more"') + END, 413, "too_large"),
    "a file twice": (FILE + b"\r\n" + FILE + END, 400, "invalid_input"),
    "too many parts": (MANY, 413, "too_large"),
    "too many headers": (b"--XYZ\r\n" + b"a: b\r\n" * 9 + b"\r\nx" + END, 400, "invalid_form"),
    "header too long": (b"--XYZ\r\na: " + b"b" * 5000 + b"\r\n\r\nx" + END, 400, "invalid_form"),
    "endless header": (b"--XYZ\r\na: " + b"b" * 30_000, 400, "invalid_form"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_form_or_too_much_of_one_is_refused_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    body, status, code = BAD[name]
    response = await door(tmp_path).post("/form", body, headers=TYPE)
    assert (response.status, response.error["code"]) == (status, code)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("multipart/mixed; boundary=XYZ", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "x" * 71, 400),
    ],
)
async def test_another_content_type_or_a_boundary_missing_is_told(
    tmp_path: Path, content_type: str, status: int
) -> None:
    assert (await door(tmp_path).post("/form", GOOD, headers={"content-type": content_type})).status == status


async def test_a_client_that_leaves_in_the_middle_of_a_file_leaves_no_draft(tmp_path: Path) -> None:
    """`receive` says that it left once the pieces are used up and more were promised."""
    seen: list[int] = []

    async def handle(exchange: Exchange) -> None:
        pieces = [FILE + b"half of it"]

        async def receive() -> Any:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": True}
            seen.append(len(files(tmp_path)))
            return {"type": "http.disconnect"}

        exchange._receive = receive  # type: ignore[attr-defined]
        async with multipart.read_form(exchange, max_field_bytes=9, max_file_bytes=99, folder=tmp_path):
            raise AssertionError("the form was never whole")

    script, access = Script(), Access(Memory())
    route = Route("POST", "/form", handle, "ask", NATIVE)
    app = create(script, ReachSettings(), access, models=lambda: [], routes=[route])
    await Door(app, script, access, Log()).post("/form", b"x", headers=TYPE)
    assert seen == [1]
    assert files(tmp_path) == []


async def test_a_full_disk_is_told_and_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multipart, "_finish", full)
    response = await door(tmp_path).post("/form", GOOD, headers=TYPE)
    assert (response.status, response.error["code"]) == (503, "out_of_resources")
    assert files(tmp_path) == []


EDITS = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.binary(max_size=12) | st.sampled_from([b"\r\n", FILE])),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drafts")


@pytest.fixture(scope="module")
def reader(drafts: Path) -> Door:
    """One gateway for all forms."""
    return door(drafts)


@settings(max_examples=100, deadline=None)
@given(edits=EDITS, size=st.integers(1, 300))
def test_a_form_bent_anywhere_is_read_or_refused_with_an_error_and_leaves_nothing(
    reader: Door, drafts: Path, edits: list[tuple[int, int, bytes]], size: int
) -> None:
    body = GOOD
    for place, gone, new in edits:
        body = body[:place] + new + body[place + gone :]
    pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    response = anyio.run(lambda: reader.post("/form", None, headers=TYPE, pieces=pieces))
    assert response.status in (200, 400, 413)
    assert response.status == 200 or msgspec.json.decode(response.body)["error"]["message"]
    assert files(drafts) == []
