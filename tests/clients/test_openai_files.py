"""What the official OpenAI client must find at a running `catena up` when it leaves files there."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.clients.conftest import Desk, requirement, up

TOPIC = "files"
DAY_S = 86_400


def leave(client: openai.OpenAI, content: bytes = b"hello", name: str = "a.txt", **options: Any) -> Any:
    """Upload a small file."""
    return client.files.create(file=(name, content), **{"purpose": "user_data", **options})


@requirement("F01", TOPIC, "`files.create` answers with the file's id, size, name, purpose and time")
def test_a_file_is_uploaded(desk: Desk) -> None:
    with desk.client() as client:
        file = leave(client, b"hello there")
    assert re.fullmatch(r"file-[0-9a-z]{26}", file.id)
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", 11, "a.txt", "user_data")
    assert abs(file.created_at - time.time()) < 60
    assert file.expires_at is None


@requirement("F02", TOPIC, "`files.wait_for_processing` returns at once: a file is durable when its upload is answered")
def test_a_file_needs_no_processing(desk: Desk) -> None:
    with desk.client() as client:
        assert client.files.wait_for_processing(leave(client).id, max_wait_seconds=1).status == "processed"


@requirement("F03", TOPIC, "`files.content` gives the very bytes, of a file from the disk too")
def test_the_content_comes_back(desk: Desk, tmp_path: Path) -> None:
    data = os.urandom(1_500_000)
    path = tmp_path / "random.bin"
    path.write_bytes(data)
    with desk.client() as client:
        file = client.files.create(file=path, purpose="user_data")
        assert file.filename == "random.bin"
        assert client.files.content(file.id).content == data


@requirement("F04", TOPIC, "`files.retrieve` shows what `files.create` answered")
def test_a_file_is_shown(desk: Desk) -> None:
    with desk.client() as client:
        file = leave(client)
        assert client.files.retrieve(file.id) == file


@requirement("F05", TOPIC, "`files.list` goes through all pages, newest first")
def test_files_are_listed_in_pages(desk: Desk) -> None:
    with desk.client() as client:
        made = [leave(client, name=f"{number}.txt").id for number in range(5)]
        page = client.files.list(limit=2)
        assert (len(page.data), page.has_more) == (2, True)
        assert [file.id for file in page] == made[::-1]


@requirement("F06", TOPIC, "`files.list` with order asc begins with the oldest")
def test_files_are_listed_in_the_order_of_their_making(desk: Desk) -> None:
    with desk.client() as client:
        made = [leave(client).id for _ in range(3)]
        assert [file.id for file in client.files.list(order="asc", limit=1)] == made
        assert [file.id for file in client.files.list(order="asc", after=made[0])] == made[1:]


@requirement("F07", TOPIC, "`files.list` with a purpose shows those files only")
def test_files_are_listed_by_purpose(desk: Desk) -> None:
    with desk.client() as client:
        leave(client)
        wanted = leave(client, purpose="batch").id
        assert [file.id for file in client.files.list(purpose="batch")] == [wanted]


@requirement("F08", TOPIC, "`files.delete` says so, and the file is gone for every call")
def test_a_file_is_deleted(desk: Desk) -> None:
    with desk.client() as client:
        file = leave(client)
        gone = client.files.delete(file.id)
        assert (gone.id, gone.deleted, gone.object) == (file.id, True, "file")
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
        assert list(client.files.list()) == []
    assert not (desk.home / "files" / file.id).exists()


@requirement("F09", TOPIC, "a file with `expires_after` names the second of its end")
def test_a_file_that_ends(desk: Desk) -> None:
    with desk.client() as client:
        file = leave(client, expires_after={"anchor": "created_at", "seconds": 3600})
        assert file.expires_at == file.created_at + 3600
        with pytest.raises(openai.BadRequestError) as caught:
            leave(client, expires_after={"anchor": "created_at", "seconds": 60})
        assert caught.value.param == "expires_after.seconds"


@requirement("F10", TOPIC, "a file with purpose batch stays for 30 days, as in the original")
def test_a_file_for_a_batch_ends_after_thirty_days(desk: Desk) -> None:
    with desk.client() as client:
        file = leave(client, purpose="batch")
    assert file.expires_at == file.created_at + 30 * DAY_S


@requirement("F11", TOPIC, "files of one key are unknown to every other")
def test_files_belong_to_their_key(desk: Desk) -> None:
    with desk.client() as client, desk.client() as other:
        file = leave(client)
        assert list(other.files.list()) == []
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
        assert client.files.content(file.id).text == "hello"


@requirement("F12", TOPIC, "a purpose that there is not is refused, naming `purpose`")
def test_an_unknown_purpose(desk: Desk) -> None:
    with desk.client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            leave(client, purpose="fun")
        assert caught.value.param == "purpose"
        assert list(client.files.list()) == []


@requirement("F13", TOPIC, "a file over `reach.max_upload_bytes` is refused with 413, and nothing of it stays")
def test_a_file_that_is_too_large(desk: Desk) -> None:
    with desk.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            leave(client, bytes(2_000_001))
        assert caught.value.status_code == 413
        assert list(client.files.list()) == []
    assert list((desk.home / "files" / "drafts").iterdir()) == []


@requirement("F14", TOPIC, "one file more than `reach.max_uploads` is refused until another is deleted")
def test_one_file_too_many(desk: Desk) -> None:
    with desk.client() as client:
        made = [leave(client, b"").id for _ in range(desk.limit)]
        with pytest.raises(openai.APIStatusError) as caught:
            leave(client)
        assert caught.value.status_code == 413
        client.files.delete(made[0])
        leave(client)


@requirement("F15", TOPIC, "an unknown part of the form is refused with the nearest known name")
def test_an_unknown_field(desk: Desk) -> None:
    with desk.client() as client, pytest.raises(openai.BadRequestError) as caught:
        leave(client, extra_body={"porpose": "x"})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "porpose")
    assert "purpose" in caught.value.body["hint"]  # type: ignore[index]


@requirement("F16", TOPIC, "a Range gives that part with 206, one behind the end 416")
def test_a_part_of_a_file(desk: Desk) -> None:
    with desk.client() as client:
        url = f"{client.base_url}files/{leave(client, b'0123456789').id}/content"
        key = {"authorization": f"Bearer {client.api_key}"}
    parts = {"bytes=2-4": "234", "bytes=7-": "789", "bytes=-3": "789", "bytes=5-99": "56789"}
    for wanted, text in parts.items():
        answer = httpx2.get(url, headers={**key, "range": wanted})
        assert (answer.status_code, answer.text) == (206, text)
        assert answer.headers["content-range"].endswith("/10")
    whole = httpx2.get(url, headers={**key, "range": "lines=1-2"})
    assert (whole.status_code, whole.text) == (200, "0123456789")
    assert httpx2.get(url, headers={**key, "range": "bytes=10-"}).status_code == 416


@requirement("F17", TOPIC, "of a filename only its last part is kept, as a file that says nothing of the sender's disk")
def test_a_filename_with_a_path(desk: Desk) -> None:
    with desk.client() as client:
        assert leave(client, name="../../etc/passwd").filename == "passwd"
        assert leave(client, name="C:\\Users\\me\\名.txt").filename == "名.txt"


@requirement("F18", TOPIC, "what is no form is refused in the API's form: 415 for JSON, 400 for half a form")
def test_what_is_no_form(desk: Desk) -> None:
    with desk.client() as client:
        url, key = f"{client.base_url}files", {"authorization": f"Bearer {client.api_key}"}
    answer = httpx2.post(url, json={"purpose": "batch"}, headers=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    kind = {"content-type": "multipart/form-data; boundary=X"}
    answer = httpx2.post(url, content=b'--X\r\nContent-Disposition: form-data; name="f"', headers={**key, **kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")


@requirement("F19", TOPIC, "files outlive a kill of the gateway; drafts and strays of it do not")
def test_files_outlive_a_kill(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with up(home, "--echo") as running, running.client() as client:
        file = leave(client, b"still here")
        running.process.kill()
        running.process.wait()
    (home / "files" / "drafts" / "draft_x").write_bytes(b"half")
    (home / "files" / "file-stray").write_bytes(b"without a row")
    with up(home, "--echo") as running, running.client() as client:
        assert client.files.content(file.id).text == "still here"
        until_only(home / "files", file.id)


def until_only(folder: Path, name: str) -> None:
    """Wait until a folder holds one file."""
    until = time.monotonic() + 10
    while {path.name for path in folder.iterdir()} - {"drafts"} != {name}:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not list((folder / "drafts").glob("*"))


@requirement("F20", TOPIC, "the file of an unknown id is not found, in the API's form")
def test_an_unknown_file(desk: Desk) -> None:
    with desk.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve("file-none")
    assert caught.value.code == "not_found"


@requirement("F21", TOPIC, "files are readable by the user of the gateway alone")
def test_files_are_private_to_this_user_on_the_disk(desk: Desk) -> None:
    with desk.client() as client:
        file = leave(client)
    assert (desk.home / "files").stat().st_mode & 0o777 == 0o700
    assert (desk.home / "files" / file.id).stat().st_mode & 0o777 == 0o600
