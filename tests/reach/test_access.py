"""API keys: shown once, kept as salted hashes, revoked without a restart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reach.gateway.conftest import Memory

from catena.core.errors import ConfigError, ConflictError, InputError, NotFoundError, UnauthenticatedError
from catena.reach.access import FRESH_S, LOCAL, Access, is_loopback


@pytest.fixture
def access() -> Access:
    return Access(Memory())


def test_a_key_is_known_by_either_header(access: Access) -> None:
    row, key = access.add("laptop")
    for identity in (access.identify(f"Bearer {key}", None), access.identify(None, key)):
        assert identity.caller.key == row.id
        assert identity.scopes == {"ask"}


def test_only_a_salted_hash_is_stored() -> None:
    memory = Memory()
    _, one = Access(memory).add("one")
    stored = memory.read("SELECT * FROM keys")
    assert one not in str(stored)
    assert one.rpartition("_")[2] not in str(stored)
    salts = memory.read("SELECT salt FROM keys")
    assert len(salts[0][0]) == 16


def test_a_wrong_key_of_ours_is_refused_even_where_none_is_required(access: Access) -> None:
    _, key = access.add("laptop")
    flipped = key[:-1] + ("0" if key[-1] != "0" else "1")
    for wrong in (flipped, "ctn_", "ctn_00000000_" + "0" * 64, key + "0", key.upper().replace("CTN", "ctn")):
        with pytest.raises(UnauthenticatedError):
            access.identify(f"Bearer {wrong}", None)


@pytest.mark.parametrize("authorization", [None, "", "Bearer sk-anything", "Basic abc", "Bearer"])
def test_on_loopback_a_foreign_key_is_as_good_as_none(access: Access, authorization: str | None) -> None:
    assert access.identify(authorization, None) == LOCAL


@pytest.mark.parametrize("authorization", [None, "", "Bearer sk-anything", "Basic abc", "Bearer"])
def test_where_keys_are_required_anything_else_is_refused(authorization: str | None) -> None:
    with pytest.raises(UnauthenticatedError):
        Access(Memory(), is_required=True).identify(authorization, None)


def test_a_revoked_key_stops_working_in_another_process_within_a_second() -> None:
    memory, now = Memory(), [0.0]
    serving = Access(memory, clock_s=lambda: now[0])
    _, key = serving.add("laptop")
    assert serving.identify(None, key).caller.key.startswith("ctn_")
    memory.write("UPDATE keys SET revoked_at_ns = 1")
    now[0] += FRESH_S
    with pytest.raises(UnauthenticatedError):
        serving.identify(None, key)


def test_revoking_by_name_or_id_keeps_the_row(access: Access) -> None:
    first, _ = access.add("one")
    access.add("two")
    assert access.revoke("two").revoked_at_ns is not None
    assert access.revoke(first.id).name == "one"
    assert [row.name for row in access.rows()] == ["one", "two"]
    with pytest.raises(NotFoundError):
        access.revoke("three")


def test_a_name_is_used_once_and_scopes_must_exist(access: Access) -> None:
    access.add("one")
    with pytest.raises(ConflictError):
        access.add("one")
    with pytest.raises(InputError, match="no scope"):
        access.add("two", ["everything"])
    with pytest.raises(InputError, match="cannot name"):
        access.add("a b")


def test_all_keys_revoked_is_as_bad_as_none_beyond_loopback(access: Access) -> None:
    access.add("one")
    access.check_listening("0.0.0.0")
    access.revoke("one")
    with pytest.raises(ConfigError):
        access.check_listening("0.0.0.0")


@given(st.ip_addresses())
def test_loopback_is_exactly_what_the_address_says(address: Any) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    assert is_loopback(str(address)) == mapped.is_loopback


@given(st.text(max_size=100))
def test_no_text_passes_for_a_key(text: str) -> None:
    access = Access(Memory(), is_required=True)
    with pytest.raises(UnauthenticatedError):
        access.identify(f"Bearer {text}", None)
