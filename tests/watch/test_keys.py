"""Keys are made once, kept private, and the same for every process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catena.core.errors import IntegrityError
from catena.watch.keys import Signer, verify


def test_the_key_is_made_once_and_signs_for_its_verifier_key(tmp_path: Path) -> None:
    first, second = Signer.open(tmp_path), Signer.open(tmp_path)
    assert first.verifier_key == second.verifier_key
    assert first.name == f"catena.local/{first.public.hex()[:8]}"
    assert verify(first.verifier_key, b"data", second.sign(b"data"))
    assert not verify(first.verifier_key, b"data.", second.sign(b"data"))
    assert (tmp_path / "keys" / "verifier.vkey").read_text() == first.verifier_key + "\n"


def test_many_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: Signer.open(tmp_path).verifier_key, range(32)))
    assert len(keys) == 1


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Signer.open(tmp_path)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "ed25519.secret",
        "salt.secret",
        "verifier.vkey",
    ]


def test_each_receipt_has_its_own_salt_and_each_machine_others(tmp_path: Path) -> None:
    one, other = Signer.open(tmp_path / "a"), Signer.open(tmp_path / "b")
    assert len({one.salt("r1"), one.salt("r2"), other.salt("r1")}) == 3
    assert one.salt("r1") == Signer.open(tmp_path / "a").salt("r1")
    assert len(one.salt("r1")) == 32


def test_a_damaged_key_file_is_an_error_not_a_new_key(tmp_path: Path) -> None:
    Signer.open(tmp_path)
    (tmp_path / "keys" / "ed25519.secret").write_bytes(b"short")
    with pytest.raises(IntegrityError, match="instead of 32"):
        Signer.open(tmp_path)
