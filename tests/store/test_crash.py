"""A pull may be killed at any moment, and several processes may work on one store at once."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catena.core.settings import StoreSettings
from catena.store import Store
from catena.watch.keys import Signer

Drafts = Callable[[Path], list[str]]
# What every process of these tests starts with; arguments: state folder, then its own.
HEAD = """
import sys
from pathlib import Path
from catena.core.settings import StoreSettings
from catena.store import Store
from catena.store.pull import local
from catena.watch.keys import Signer
home = Path(sys.argv[1])
"""
OPEN = "store = Store.open(home, StoreSettings(), Signer.open(home))\n"
# Copies in small synced steps, as from another disk, and a pause at each, so that a kill can fall anywhere.
COPY = """
import time
local.share = lambda *_: None
local.SYNC_BYTES = 1 << 19
local.PIECE_BYTES = 1 << 18
print("ready", flush=True)
store.pull(sys.argv[2], name=sys.argv[3], progress=lambda step: time.sleep(0.002))
print("done", flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcomes(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What each of them printed, once all have ended well."""
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return [out for out, _ in said]


def check_everything(store: Store) -> None:
    for row in store.models():
        store.check_files(row.digest, is_full=True)
        store.resolve(row.name)


def test_a_pull_killed_at_any_moment_leaves_a_sound_store_and_is_taken_up_again(
    home: Path, large: Path, tiny: Path, drafts: Drafts
) -> None:
    rng = random.Random(11)
    store = Store.open(home, StoreSettings(), Signer.open(home))
    store.pull(str(tiny), name="tiny")
    num_resumed = 0
    for number in range(12):
        process = start(HEAD + OPEN + COPY, str(home), str(large), f"model-{number}")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.random() * 0.15)
        process.kill()
        process.communicate()
        check_everything(store)
        num_resumed += "0.part" in drafts(home)
        if rng.random() < 0.3:
            store.collect()
            assert drafts(home) == []
            check_everything(store)
    assert num_resumed > 0
    store.pull(str(large), name="whole")
    assert store.resolve("whole").path("weights").read_bytes() == large.read_bytes()
    check_everything(store)
    store.close()


@pytest.mark.parametrize("step", ["place", "keep", "after"])
def test_a_kill_between_the_steps_of_a_commit_leaves_the_old_state_or_the_new_one(
    home: Path, large: Path, step: str, drafts: Drafts
) -> None:
    kill = {
        "place": "from catena.store.blobs import Blobs\nBlobs.place = lambda *_: os._exit(9)\n",
        "keep": "from catena.store.manifests import Manifests\nManifests.keep = lambda *_: os._exit(9)\n",
        "after": "import catena.store.blobs as blobs\nblobs.clear = lambda *_: os._exit(9)\n",
    }[step]
    process = start(HEAD + "import os\n" + kill + OPEN + COPY, str(home), str(large), "large")
    process.communicate(timeout=60)
    assert process.returncode == 9
    store = Store.open(home, StoreSettings(), Signer.open(home))
    assert [row.name for row in store.models()] == (["large"] if step == "after" else [])
    check_everything(store)
    assert store.pull(str(large), name="large").row.size_bytes == large.stat().st_size
    check_everything(store)
    assert drafts(home) == []
    assert store.collect().num_files == 0
    store.close()


def test_files_of_a_kill_before_the_manifest_are_collected(home: Path, large: Path, drafts: Drafts) -> None:
    kill = "import os\nfrom catena.store.manifests import Manifests\nManifests.keep = lambda *_: os._exit(9)\n"
    process = start(HEAD + kill + OPEN + COPY, str(home), str(large), "large")
    process.communicate(timeout=60)
    store = Store.open(home, StoreSettings(), Signer.open(home))
    assert store.collect().num_bytes >= large.stat().st_size
    assert [path for path in (home / "blobs" / "sha256").rglob("*") if path.is_file()] == []
    assert drafts(home) == []
    store.close()


def test_processes_that_start_at_once_on_an_empty_folder_open_one_store(tmp_path: Path, tiny: Path) -> None:
    for number in range(3):
        home = tmp_path / f"home{number}"
        home.mkdir()
        script = HEAD + "sys.stdin.readline()\n" + OPEN + "print(store.pull(sys.argv[2], name='tiny').row.digest)"
        command = [sys.executable, "-c", script, str(home), str(tiny)]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(6)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert len(set(outcomes(processes))) == 1


def test_two_processes_that_pull_the_same_file_copy_it_once(home: Path, large: Path) -> None:
    script = HEAD + OPEN + COPY.replace("store.pull", "pulled = store.pull") + "print(pulled.how)"
    processes = [start(script, str(home), str(large), "large") for _ in range(3)]
    hows = sorted(said.split()[-1] for said in outcomes(processes))
    assert hows == ["copied", "present", "present"]
    store = Store.open(home, StoreSettings(), Signer.open(home))
    check_everything(store)
    store.close()


def test_collecting_while_others_pull_and_remove_never_takes_a_file_that_is_needed(
    home: Path, large: Path, tiny: Path
) -> None:
    store = Store.open(home, StoreSettings(), Signer.open(home))
    puller = (
        HEAD
        + OPEN
        + textwrap.dedent("""
        local.share = lambda *_: None
        for number in range(25):
            name = f"{sys.argv[3]}{number}"
            store.pull(sys.argv[2], name=name)
            store.resolve(name)
            store.check_files(store.resolve(name).digest, is_full=True)
            store.remove(name)
        """)
    )
    collector = HEAD + OPEN + "for _ in range(60): store.collect()\n"
    sources = ((large, "a"), (large, "b"), (tiny, "c"))
    processes = [start(puller, str(home), str(source), name) for source, name in sources]
    processes += [start(collector, str(home))]
    outcomes(processes)
    check_everything(store)
    store.collect()
    assert [path for path in (home / "blobs" / "sha256").rglob("*") if path.is_file()] == []
    store.close()


def test_drafts_of_a_living_process_are_not_collected(home: Path, large: Path, drafts: Drafts) -> None:
    slow = COPY.replace("0.002", "0.1")
    process = start(HEAD + OPEN + slow, str(home), str(large), "large")
    assert process.stdout is not None
    process.stdout.readline()
    until_s = time.monotonic() + 30
    while "0.part" not in drafts(home) and time.monotonic() < until_s:
        time.sleep(0.01)
    store = Store.open(home, StoreSettings(), Signer.open(home))
    store.collect()
    assert "0.part" in drafts(home)
    process.kill()
    process.communicate()
    assert store.collect().num_files > 0
    assert drafts(home) == []
    store.close()


def test_a_model_in_use_survives_its_removal_for_who_has_it_open(store: Store, large: Path) -> None:
    store.pull(str(large))
    with store.resolve("large").path("weights").open("rb") as file:
        store.remove("large")
        store.collect()
        assert file.read() == large.read_bytes()


def test_a_store_is_used_by_many_threads(store: Store, tiny: Path, large: Path) -> None:
    store.pull(str(tiny), name="tiny")

    def work(number: int) -> None:
        for turn in range(30):
            store.resolve("tiny")
            store.pull(str(large), name=f"m{number}-{turn % 2}")
            assert store.models()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result(60)
    assert len(store.models()) == 9
