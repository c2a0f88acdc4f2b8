"""Downloads in pieces: what breaks is fetched again and nothing else, kills cost little, nothing wrong gets through."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.hub_server import Fault, HubServer, Repo, Request

from catena.core.errors import CancelledError, IntegrityError, NetworkError, ResourceError
from catena.store import Progress, Store, blobs
from catena.store.pull import journal, ranged, repository, web
from catena.store.pull.journal import Journal

PATH = "large-Q8_0.gguf"
SOURCE = "hf:org/large"
PIECE = 1 << 18
# What the client may have received, and not handed over yet, when a connection breaks.
LOST = 1 << 16
# A pull in a process of its own; arguments: state folder. Pieces are as small as in this process.
PULL = f"""
import sys
from pathlib import Path
from catena.core.settings import StoreSettings
from catena.store import Store
from catena.store.pull import journal, ranged
from catena.watch.keys import Signer
journal.PIECE_BYTES = ranged.PIECE_BYTES = {PIECE}
ranged.RUN_BYTES = 1 << 16
home = Path(sys.argv[1])
store = Store.open(home, StoreSettings(), Signer.open(home))
print("ready", flush=True)
store.pull("{SOURCE}")
print("done", flush=True)
"""


@pytest.fixture
def content(large: Path) -> bytes:
    return large.read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, content: bytes, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with one file of 8 MB, fetched in pieces of 256 KiB."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setattr(web, "WAITS_S", (0.01,) * 5)
    monkeypatch.setattr(journal, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(ranged, "PIECE_BYTES", PIECE)
    with HubServer(**{"org/large": Repo({PATH: content, "chat_template.jinja": b"{{ messages }}"})}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def every(number: int, fault: Fault) -> Any:
    """The fault at every so-manieth request for the content of the large file."""
    count = iter(range(1, 1 << 30))
    return lambda request: fault if request.path == PATH and next(count) % number == 0 else None


def once(fault: Fault, offset: int = 0) -> Any:
    """The fault at the first request whose range has this offset."""
    left = [fault]

    def spoil(request: Request) -> Fault | None:
        start = int((request.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        return left.pop() if request.path == PATH and start <= offset < start + PIECE and left else None

    return spoil


def stored(store: Store) -> bytes:
    return store.resolve("large-q8_0").path("weights").read_bytes()


def test_a_file_comes_in_pieces_over_several_connections_each_byte_once(
    store: Store, hub: HubServer, content: bytes
) -> None:
    assert store.pull(SOURCE).bytes_downloaded == len(content) + 14
    assert stored(store) == content
    assert len(hub.of(PATH)) == -(-len(content) // PIECE)
    assert hub.sent_twice(PATH) == 0


def test_a_connection_that_is_cut_goes_on_where_it_broke(store: Store, hub: HubServer, content: bytes) -> None:
    hub.fault = every(3, Fault(cut_after=100_000))
    store.pull(SOURCE)
    assert stored(store) == content
    resumed = [request for request in hub.of(PATH) if request.start % PIECE]
    assert len(resumed) > 5 and hub.sent_twice(PATH) <= len(resumed) * LOST


def test_a_damaged_piece_is_found_by_the_digest_and_alone_replaced(
    store: Store, hub: HubServer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = ranged._Draft.write

    def noted(draft: Any, pieces: list[memoryview], offset: int) -> int:
        if hub.sent_twice(PATH):
            written.append(offset)
        return write(draft, pieces, offset)

    monkeypatch.setattr(ranged._Draft, "write", noted)
    hub.fault = once(Fault(damage_at=5 * PIECE + 17), 5 * PIECE + 17)
    store.pull(SOURCE)
    assert stored(store) == content
    assert set(written) == {5 * PIECE}


@pytest.mark.parametrize("damage_at", [0, 7 * PIECE])
def test_a_server_that_always_sends_wrong_bytes_is_not_believed(
    store: Store, hub: HubServer, damage_at: int, home: Path
) -> None:
    hub.fault = lambda request: Fault(damage_at=damage_at) if request.path == PATH else None
    with pytest.raises(IntegrityError, match="does not match the digest"):
        store.pull(SOURCE)
    assert store.models() == []
    assert not any((home / "blobs" / "drafts").iterdir())


def test_a_server_that_knows_no_ranges_is_read_from_start_to_end(store: Store, hub: HubServer, content: bytes) -> None:
    hub.fault = lambda _: Fault(ignores_range=True)
    store.pull(SOURCE)
    assert stored(store) == content


@pytest.mark.parametrize(
    "fault",
    [
        Fault(lies_by=-1000),
        Fault(lies_by=1000),
        Fault(shifts_range=1),
        Fault(shifts_range=PIECE),
        Fault(extra=5000),
        Fault(status=500),
        Fault(status=404),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(ignores_range=True, lies_by=99),
        Fault(cut_after=0),
    ],
    ids=lambda fault: str({key: value for key, value in vars(fault).items() if value}),
)
def test_an_answer_that_is_not_what_was_asked_for_is_asked_for_again(
    store: Store, hub: HubServer, content: bytes, fault: Fault
) -> None:
    hub.fault = every(4, fault)
    store.pull(SOURCE)
    assert stored(store) == content


@pytest.mark.parametrize("fault", [Fault(shifts_range=PIECE), Fault(status=503), Fault(cut_after=0)], ids=str)
def test_a_server_that_never_does_better_ends_in_a_clear_error(store: Store, hub: HubServer, fault: Fault) -> None:
    hub.fault = lambda request: fault if request.path == PATH else None
    with pytest.raises(NetworkError) as caught:
        store.pull(SOURCE)
    assert "127.0.0.1" in caught.value.message
    assert threading.active_count() < 40


def test_an_address_that_has_run_out_is_asked_for_anew(store: Store, hub: HubServer, content: bytes) -> None:
    hub.expires = True
    store.pull(SOURCE)
    assert stored(store) == content


def test_a_server_that_stops_sending_is_given_up_and_asked_again(
    store: Store, hub: HubServer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READ_S", 0.2)
    hub.fault = every(10, Fault(pause_s=1.0))
    store.pull(SOURCE)
    assert stored(store) == content


def test_what_came_before_an_interruption_is_not_fetched_again(store: Store, hub: HubServer, content: bytes) -> None:
    def refuse_late(request: Request) -> Fault | None:
        start = int((request.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        return Fault(status=503) if request.path == PATH and start >= 4 << 20 else None

    hub.fault = refuse_late
    with pytest.raises(NetworkError):
        store.pull(SOURCE)
    came = sum(request.sent for request in hub.of(PATH))
    hub.fault = lambda _: None
    assert store.pull(SOURCE).bytes_downloaded <= len(content) - came + ranged.NUM_CONNECTIONS * PIECE
    assert stored(store) == content
    assert hub.sent_twice(PATH) <= ranged.NUM_CONNECTIONS * PIECE


def test_a_pull_that_is_killed_costs_at_most_one_chunk_and_ends_right(
    hub: HubServer, content: bytes, home: Path
) -> None:
    rng = random.Random(7)
    hub.fault = lambda request: Fault(rate_bytes_s=4e6) if request.path == PATH else None
    kills = 0
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", PULL, str(home)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + rng.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        if "done" in said:
            break
        kills += 1
    hub.fault = lambda _: None
    done = subprocess.run(
        [sys.executable, "-c", PULL, str(home)], check=True, capture_output=True, text=True, timeout=60
    )
    assert "done" in done.stdout
    assert kills >= 4
    assert hub.sent_twice(PATH) <= kills * ranged.NUM_CONNECTIONS * PIECE
    found = home / "blobs" / "sha256"
    digest = hashlib.sha256(content).hexdigest()
    assert (found / digest[:2] / digest).read_bytes() == content


def test_an_interrupt_ends_every_thread_at_once_and_keeps_what_came(store: Store, hub: HubServer, home: Path) -> None:
    hub.fault = lambda request: Fault(rate_bytes_s=1e6) if request.path == PATH else None
    before = threading.active_count()

    def interrupt(step: Progress) -> None:
        if step.phase == "download" and step.done_bytes > 100_000:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.pull(SOURCE, progress=interrupt)
    assert time.monotonic() - started < 5
    assert [thread.name for thread in threading.enumerate() if "take" in thread.name or "hash" in thread.name] == []
    assert threading.active_count() <= before + 2 * ranged.NUM_CONNECTIONS + 2  # those of the server end in their time
    assert any(path.suffix == ".part" for path in (home / "blobs" / "drafts").rglob("*"))
    hub.fault = lambda _: None
    assert store.pull(SOURCE).bytes_downloaded < (8 << 20) - 90_000


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = repository.shutil.disk_usage
    monkeypatch.setattr(repository.shutil, "disk_usage", lambda path: usage(path)._replace(free=1_000_000))
    with pytest.raises(ResourceError, match=r"needs 8\.4 MB more, and the disk has 1\.0 MB free"):
        store.pull(SOURCE)
    assert not any(request.path for request in hub.seen)


def test_what_fills_the_disk_is_given_up_by_the_next_collection_or_taken_up_by_the_next_pull(
    store: Store, hub: HubServer, content: bytes, drafts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ranged._Draft.write

    def full(draft: Any, pieces: list[memoryview], offset: int) -> int:
        if offset > len(content) // 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(draft, pieces, offset)

    for is_collected in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(ranged._Draft, "write", full)
            with pytest.raises(ResourceError, match="disk is full"):
                store.pull(SOURCE)
        assert any(name.endswith(".part") for name in drafts(store._blobs.root.parent))
        if is_collected:
            store.collect()
            assert drafts(store._blobs.root.parent) == []
        else:
            assert store.pull(SOURCE).bytes_downloaded < len(content)
            store.remove("large-q8_0")
            store.collect()


def test_a_draft_that_is_whole_but_wrong_is_mended_where_it_differs(
    store: Store, hub: HubServer, content: bytes, home: Path, change: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository.local, "choose", lambda _: (_ for _ in ()).throw(NetworkError("stopped late")))
        with pytest.raises(NetworkError):
            store.pull(SOURCE)
    part = max((home / "blobs" / "drafts").rglob("*.part"), key=lambda path: path.stat().st_size)
    change(part, 3 * PIECE + 5)
    hub.seen.clear()
    store.pull(SOURCE)
    assert stored(store) == content


def test_what_an_interrupted_pull_left_counts_as_there_when_the_disk_is_measured(
    store: Store, hub: HubServer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fault = lambda request: Fault(cut_after=PIECE // 2) if request.path == PATH else None
    monkeypatch.setattr(ranged, "NUM_CONNECTIONS", 1)
    monkeypatch.setattr(web, "WAITS_S", ())
    with pytest.raises(NetworkError):
        store.pull(SOURCE)
    usage = repository.shutil.disk_usage
    free = len(content) - PIECE // 2 + LOST + 14 + repository.SPARE_BYTES
    monkeypatch.setattr(repository.shutil, "disk_usage", lambda path: usage(path)._replace(free=free))
    hub.fault = lambda _: None
    assert store.pull(SOURCE).is_new


def test_collecting_keeps_what_a_recent_pull_left_and_removes_what_an_old_one_did(
    store: Store, hub: HubServer, home: Path, drafts: Any
) -> None:
    hub.fault = lambda request: Fault(status=503) if request.path == PATH else None
    with pytest.raises(NetworkError):
        store.pull(SOURCE)
    store.collect()
    assert any(name.endswith(".part") for name in drafts(home))
    (mark,) = (home / "blobs" / "drafts").rglob(blobs.RESUMABLE)
    old_s = time.time() - blobs.RESUMABLE_S - 60
    os.utime(mark, (old_s, old_s))
    assert store.collect().num_files > 0
    assert drafts(home) == []


def test_progress_tells_the_rate_and_how_long_it_will_take(store: Store, hub: HubServer, content: bytes) -> None:
    hub.fault = lambda request: Fault(rate_bytes_s=4e6) if request.path == PATH else None
    steps: list[Progress] = []
    store.pull(SOURCE, progress=steps.append)
    assert steps[-1].phase == "check" and steps[-1].done_bytes == steps[-1].total_bytes == len(content) + 14
    steps = [step for step in steps if step.phase == "download"]
    assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
    assert steps[0].total_bytes == len(content) + 14
    middle = steps[len(steps) // 2]
    assert middle.rate_bytes_s is not None and middle.left_s is not None
    assert 1e6 < middle.rate_bytes_s < 2e7 and 0 < middle.left_s < 10


def test_after_a_crash_of_the_machine_only_what_was_synced_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, draft = tmp_path / "journal", tmp_path / "draft"
    draft.write_bytes(bytes(journal.PIECE_BYTES * 2))
    descriptor = os.open(draft, os.O_RDWR)
    first = Journal(path, "a", journal.PIECE_BYTES * 2)
    first.note(0, journal.PIECE_BYTES)
    first.sync(descriptor)
    first.note(1, 12_345)
    first.close()
    again = Journal(path, "a", journal.PIECE_BYTES * 2)
    assert (again.is_whole(0), again.landed(1)) == (True, 12_345)
    again.close()
    monkeypatch.setattr(journal, "_boot", lambda: b"another")
    crashed = Journal(path, "a", journal.PIECE_BYTES * 2)
    assert (crashed.is_whole(0), crashed.landed(1)) == (True, 0)
    crashed.close()
    os.close(descriptor)


@pytest.mark.parametrize("case", ["other file", "other size", "cut", "garbage", "too much"])
def test_a_journal_that_speaks_of_something_else_is_begun_anew(tmp_path: Path, case: str) -> None:
    path, size = tmp_path / "journal", journal.PIECE_BYTES * 3 + 5
    first = Journal(path, "a", size)
    for number in range(4):
        first.note(number, first.length(number))
    assert first.total() == size
    first.close()
    identity = "b" if case == "other file" else "a"
    match case:
        case "other size":
            size += 1
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "garbage":
            path.write_bytes(os.urandom(path.stat().st_size))
        case "too much":
            path.write_bytes(path.read_bytes()[:-32] + b"\xff" * 32)
    again = Journal(path, identity, size)
    if case == "too much":
        assert [again.landed(number) <= again.length(number) for number in range(4)] == [True] * 4
    else:
        assert again.total() == 0
    again.close()


def test_a_draft_that_was_swapped_for_another_is_found_by_the_digest(
    store: Store, hub: HubServer, content: bytes, home: Path
) -> None:
    hub.fault = lambda request: Fault(cut_after=PIECE // 2) if request.path == PATH else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "WAITS_S", ())
        with pytest.raises(NetworkError):
            store.pull(SOURCE)
    part = max((home / "blobs" / "drafts").rglob("*.part"), key=lambda path: path.stat().st_size)
    part.write_bytes(os.urandom(len(content)))
    hub.fault = lambda _: None
    store.pull(SOURCE)
    assert stored(store) == content


def test_a_stopped_client_says_that_it_was_stopped(hub: HubServer) -> None:
    client = web.Web(web.Hub(hub.url, "HF_ENDPOINT", "HF_TOKEN"))
    client.close()
    with pytest.raises(CancelledError):
        client.read(f"{hub.url}/api/models/org/large/revision/main", dict, 1000)
