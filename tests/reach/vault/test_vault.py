"""What is sealed opens as what it was, in its own place alone, and never again once it is forgotten."""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import ConfigError, ConflictError, IntegrityError, MissingExtraError, NotFoundError
from catena.core.settings import ReachSettings
from catena.reach.vault import SealedReader, SealedWriter, Vault, bind, slot_of
from catena.reach.vault.vault import HEAD_BYTES, rotate

FILE, PHRASE = ReachSettings(), ReachSettings(vault="passphrase")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    opened = Vault.open(tmp_path, FILE)
    yield opened
    opened.close()


def test_an_item_comes_back_and_every_changed_byte_of_it_is_refused(vault: Vault) -> None:
    sealed = vault.seal("answer", "a", b"the words")
    assert b"words" not in sealed
    assert vault.open_sealed("answer", "a", sealed) == b"the words"
    for place in range(len(sealed)):
        bent = bytearray(sealed)
        bent[place] ^= 1
        with pytest.raises((IntegrityError, NotFoundError)):
            vault.open_sealed("answer", "a", bytes(bent))
    for length in range(len(sealed)):
        with pytest.raises(IntegrityError):
            vault.open_sealed("answer", "a", sealed[:length])


def test_an_item_opens_in_its_own_place_alone(vault: Vault) -> None:
    sealed = vault.seal("answer", "a", b"x")
    for kind, id in (("answer", "b"), ("file", "a"), ("answe", "ra")):
        with pytest.raises(IntegrityError):
            vault.open_sealed(kind, id, sealed)


def test_what_is_forgotten_opens_nowhere_not_even_a_copy(vault: Vault, tmp_path: Path) -> None:
    items = [vault.seal("answer", str(number), b"x") for number in range(100)]
    vault.forget(item[:HEAD_BYTES] for item in items[:50])
    again = Vault.open(tmp_path, FILE)
    for opened in (vault, again):
        for number in range(50):
            with pytest.raises(NotFoundError):
                opened.open_sealed("answer", str(number), items[number])
        assert opened.open_sealed("answer", "99", items[99]) == b"x"
    again.close()


def test_a_key_that_was_given_out_again_opens_nothing_older_and_is_not_burnt_for_it(tmp_path: Path) -> None:
    first = Vault.open(tmp_path, FILE)
    old = [first.seal("a", str(number), b"old") for number in range(64)]
    first.forget(old)
    first.close()
    second = Vault.open(tmp_path, FILE)
    new = [second.seal("a", str(number), b"new") for number in range(64)]
    assert (tmp_path / "keys" / "vault").stat().st_size <= 4096 + 64 * 256
    second.forget(old)
    for number, item in enumerate(new):
        assert second.open_sealed("a", str(number), item) == b"new"
        with pytest.raises(NotFoundError):
            second.open_sealed("a", str(number), old[number])
    second.close()


def test_two_processes_never_share_a_key(tmp_path: Path) -> None:
    one, two = Vault.open(tmp_path, FILE), Vault.open(tmp_path, FILE)
    numbers = [opened.new_key()[0] for _ in range(300) for opened in (one, two)]
    assert len(set(numbers)) == 600
    one.close()
    two.close()


def test_keys_are_for_their_owner_alone(vault: Vault, tmp_path: Path) -> None:
    vault.seal("a", "b", b"")
    for path in (tmp_path / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_passphrase_is_asked_for_never_kept_and_a_wrong_one_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CATENA_PASSPHRASE", raising=False)
    with pytest.raises(ConfigError, match="none was given"):
        Vault.open(tmp_path, PHRASE)
    monkeypatch.setenv("CATENA_PASSPHRASE", "short")
    with pytest.raises(ConfigError, match="at least 8"):
        Vault.open(tmp_path, PHRASE)
    monkeypatch.setenv("CATENA_PASSPHRASE", "正确的马电池订书钉")
    opened = Vault.open(tmp_path, PHRASE)
    sealed = opened.seal("a", "b", b"words")
    opened.close()
    assert "正确的马电池订书钉".encode() not in b"".join(path.read_bytes() for path in (tmp_path / "keys").iterdir())
    monkeypatch.setenv("CATENA_PASSPHRASE", "another one")
    with pytest.raises(IntegrityError, match="passphrase is wrong"):
        Vault.open(tmp_path, PHRASE)
    monkeypatch.delenv("CATENA_PASSPHRASE")
    again = Vault.open(tmp_path, PHRASE, prompt=lambda _: "正确的马电池订书钉")
    assert again.open_sealed("a", "b", sealed) == b"words"
    again.close()


def test_the_key_may_be_in_the_system_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring: dict[tuple[str, str], str] = {}
    errors = types.SimpleNamespace(KeyringError=type("KeyringError", (Exception,), {}))
    fake: Any = types.SimpleNamespace(
        get_password=lambda service, user: ring.get((service, user)),
        set_password=lambda service, user, value: ring.update({(service, user): value}),
        delete_password=lambda service, user: ring.pop((service, user)),
        errors=errors,
    )
    settings = ReachSettings(vault="keyring")
    monkeypatch.setitem(sys.modules, "keyring", fake)
    opened = Vault.open(tmp_path, settings)
    sealed = opened.seal("a", "b", b"words")
    opened.close()
    assert not list((tmp_path / "keys").glob("*.secret"))
    rotate(tmp_path, settings, "keyring")
    assert len(ring) == 1
    opened = Vault.open(tmp_path, settings)
    assert opened.open_sealed("a", "b", sealed) == b"words"
    opened.close()
    ring.clear()
    with pytest.raises(IntegrityError, match="no entry"):
        Vault.open(tmp_path, settings)
    monkeypatch.setitem(sys.modules, "keyring", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError):
        Vault.open(tmp_path, settings)


def test_rotation_changes_every_key_but_those_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Vault.open(tmp_path, FILE)
    kept, gone = opened.seal("a", "kept", b"x"), opened.seal("a", "gone", b"y")
    opened.forget([gone])
    with pytest.raises(ConflictError):
        rotate(tmp_path, FILE, "file")
    opened.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    rotate(tmp_path, FILE, "file")
    after = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    assert len(before) == len(after) == 3
    assert before.keys() & after.keys() == {"vault", "vault.lock"}
    monkeypatch.setenv("CATENA_PASSPHRASE_NEW", "six random words")
    rotate(tmp_path, FILE, "passphrase")
    assert not list((tmp_path / "keys").glob("*.secret"))
    with pytest.raises(ConfigError, match="locked by passphrase"):
        Vault.open(tmp_path, FILE)
    monkeypatch.setenv("CATENA_PASSPHRASE", "six random words")
    opened = Vault.open(tmp_path, PHRASE)
    assert opened.open_sealed("a", "kept", kept) == b"x"
    with pytest.raises(NotFoundError):
        opened.open_sealed("a", "gone", gone)
    opened.close()


def test_a_vault_that_was_changed_is_refused(tmp_path: Path) -> None:
    opened = Vault.open(tmp_path, FILE)
    sealed = opened.seal("a", "b", b"x")
    opened.close()
    path = tmp_path / "keys" / "vault"
    whole = path.read_bytes()
    for place in (3, 40, 120, 200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IntegrityError):
            Vault.open(tmp_path, FILE)
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    opened = Vault.open(tmp_path, FILE)
    with pytest.raises(NotFoundError):
        opened.open_sealed("a", "b", sealed)
    opened.close()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_a_file_is_read_from_any_byte_on(vault: Vault, tmp_path: Path, size: int) -> None:
    data, path = os.urandom(size), tmp_path / "f"
    with SealedWriter(path, vault) as writer:
        for start in range(0, size, 7777):
            writer.write(data[start : start + 7777])
    assert bind(path, vault, "file", "id") == size
    with io.BufferedReader(SealedReader(path, vault, "file", "id")) as reader:
        assert reader.read() == data
        for start in (0, size // 2, max(0, size - 1), size + 5):
            reader.seek(start)
            assert reader.read(1000) == data[start : start + 1000]
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_was_bent_cut_lengthened_or_moved_is_refused(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "f"
    with SealedWriter(path, vault) as writer:
        writer.write(b"words" * 30_000)
    with pytest.raises(IntegrityError):
        SealedReader(path, vault, "file", "id")  # not bound yet
    bind(path, vault, "file", "id")
    with pytest.raises(IntegrityError):
        SealedReader(path, vault, "file", "other")
    whole = path.read_bytes()
    pieces = (whole[:52], whole[52 : 52 + 65_552], whole[52 + 65_552 : 52 + 2 * 65_552], whole[52 + 2 * 65_552 :])
    bent = [whole[:-1], whole + b"x", whole[:300], b"", pieces[0] + pieces[2] + pieces[1] + pieces[3]]
    bent += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in (0, 5, 14, 30, 60, 70_000)]
    for data in bent:
        path.write_bytes(data)
        with pytest.raises((IntegrityError, NotFoundError)):
            SealedReader(path, vault, "file", "id").readall()
    path.write_bytes(whole)
    slot = slot_of(path)
    assert slot is not None
    vault.burn([slot])
    with pytest.raises(NotFoundError):
        SealedReader(path, vault, "file", "id")
