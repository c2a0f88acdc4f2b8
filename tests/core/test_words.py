"""Ids, digests, clock and units: the small words that every stage shares."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core import clock, ids, units
from catena.core.errors import InputError

SYMBOLS = sorted(units.BASE)


def test_ids_are_unique_and_have_their_shape() -> None:
    made = [ids.new_id("rcp") for _ in range(2000)]
    assert len(set(made)) == len(made)
    assert all(ids.is_id(each, "rcp") and len(each) == 30 for each in made)


def test_ids_sort_by_the_time_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for at_ms in (1, 31, 32, 1_000_000, 1_764_000_000_000, 1_764_000_000_001, (1 << 48) - 1):
        monkeypatch.setattr(time, "time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        made.append(ids.new_id("rcp"))
    assert made == sorted(made)


def test_an_id_holds_its_time_and_80_random_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_764_000_000_123_456_789)
    number = 0
    for letter in ids.new_id("rcp").partition("_")[2]:
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    assert number >> 80 == 1_764_000_000_123
    assert number < 1 << 128


@pytest.mark.parametrize(
    "text",
    ["", "rcp_", "rcp_" + "0" * 25, "rcp_" + "0" * 27, "rcp_" + "i" * 26, "rcp_" + "0" * 25 + "\n", "key_" + "0" * 26],
)
def test_what_is_not_an_id_is_told_from_one(text: str) -> None:
    assert not ids.is_id(text, "rcp")


@given(st.text())
def test_no_text_with_a_path_in_it_is_an_id_or_a_digest(text: str) -> None:
    for shape in (f"rcp_{text}/..", f"sha256:{text}/..", f"../{text}", f"sha256:{'a' * 64}{text}/"):
        assert not ids.is_id(shape, "rcp")
        assert not ids.is_digest(shape)


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_is_lower_case_hexadecimal_of_exactly_its_length(raw: bytes) -> None:
    assert ids.is_digest(f"sha256:{raw.hex()}")
    for wrong in (raw.hex(), f"sha256:{raw.hex()[1:]}", f"sha256:{raw.hex()}0", f"SHA256:{raw.hex()}"):
        assert not ids.is_digest(wrong)
    assert not ids.is_digest("sha256:" + "A" * 64)


@given(st.integers(0, 4_102_444_800 * 10**9))
def test_a_time_is_rfc_3339_in_utc_with_milliseconds(at_ns: int) -> None:
    text = clock.iso(at_ns)
    assert text.endswith("Z") and len(text) == 24
    assert round(datetime.fromisoformat(text).timestamp() * 1000) == at_ns // 1_000_000


def test_a_known_moment_is_written_as_it_is() -> None:
    assert clock.iso(1_764_000_000_009_999_999) == "2025-11-24T16:00:00.009Z"


def test_the_clocks_run_in_their_units() -> None:
    assert abs(clock.now_ns() / 1e9 - time.time()) < 5
    first = clock.monotonic_s()
    assert 0 <= clock.monotonic_s() - first < 5


@given(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from("*/"), st.integers(-4, 4)), min_size=1, max_size=5))
def test_symbols_joined_by_the_rules_are_a_unit(factors: list[tuple[str, str, int]]) -> None:
    text = ""
    for symbol, joint, power in factors:
        text += (joint if text else "") + symbol + (f"^{power}" if power else "")
    assert units.check_unit(text) == text


@pytest.mark.parametrize("text", ["", "furlong", "kg//s", "m^", "m^x", "m^٣", "m^--1", "kg s", "kW", "m^1.5", "m*"])
def test_what_is_not_a_unit_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a unit"):
        units.check_unit(text)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (98_362_432, "98.4 MB"), (5e12, "5.0 TB"), (5e16, "50000.0 TB")],
)
def test_bytes_are_written_for_people(num_bytes: float, text: str) -> None:
    assert units.bytes_text(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.083, "83 ms"), (2.4, "2.4 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (3599.6, "1 h 00 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert units.duration_text(seconds) == text


def test_ids_made_by_threads_and_by_a_forked_process_are_all_different() -> None:
    found: list[str] = [ids.new_id("req")]
    threads = [threading.Thread(target=lambda: found.extend(ids.new_id("req") for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = (
        "import os; from catena.core.ids import new_id; new_id('req'); out, into = os.pipe(); child = os.fork() == 0;"
        "ids = ' '.join(new_id('req')[14:] for _ in range(100)); child and (os.write(into, ids.encode()), os._exit(0));"
        "os.wait(); print(len({*ids.split(), *os.read(out, 65536).decode().split()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert len(set(found)) == 8001
    assert done.stdout.strip() == "200"
