"""Signed notes and checkpoints against vectors published with the Go note package and the Go checksum database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core.errors import IntegrityError
from catena.watch import notes
from catena.watch.keys import Signer
from catena.watch.layout import hash_path, number_path

# golang.org/x/mod/sumdb/note, example of Open.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_NOTE = (
    PETER_TEXT + "\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The verifier key that the go command trusts for sum.golang.org.
SUMDB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

SIGNER = Signer(bytes(range(32)), bytes(32))
NOTE = notes.sign_checkpoint(7, bytes(range(32)), SIGNER)


def test_a_published_note_opens_under_its_published_key() -> None:
    assert notes.open_note(PETER_NOTE, notes.parse_key(PETER)) == PETER_TEXT


@pytest.mark.parametrize("text", [PETER, SUMDB, SIGNER.verifier_key])
def test_published_keys_are_read_and_written_alike(text: str) -> None:
    key = notes.parse_key(text)
    assert notes.format_key(key.name, key.public) == text


def test_a_checkpoint_comes_back_as_it_was_signed() -> None:
    assert notes.open_checkpoint(NOTE, SIGNER.key) == (SIGNER.name, 7, bytes(range(32)))
    assert NOTE.startswith(f"{SIGNER.name}\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n\u2014 {SIGNER.name} ")


@given(st.integers(0, len(NOTE.encode()) * 8 - 1))
def test_no_bit_of_a_checkpoint_can_be_changed(bit: int) -> None:
    data = bytearray(NOTE.encode())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((IntegrityError, UnicodeDecodeError)):
        notes.open_checkpoint(data.decode(), SIGNER.key)


def test_lines_of_witnesses_are_ignored_but_never_suffice() -> None:
    witness = Signer(bytes(range(1, 33)), bytes(32))
    line = notes.sign_checkpoint(7, bytes(range(32)), witness).rpartition("\n\n")[2]
    assert notes.open_checkpoint(NOTE + line, SIGNER.key).size == 7
    with pytest.raises(IntegrityError, match="not signed by"):
        notes.open_checkpoint(NOTE.rpartition("\n\n")[0] + "\n\n" + line, SIGNER.key)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    note = notes.sign_note("example.com/other\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", SIGNER)
    with pytest.raises(IntegrityError, match="belongs to"):
        notes.open_checkpoint(note, SIGNER.key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER[:-1] + "X",
        "+" + PETER,
        "a b" + PETER,
    ],
)
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        notes.parse_key(text)


@pytest.mark.parametrize("size", ["07", "-1", "x", "", "1" * 30, "٧"])
def test_sizes_have_one_spelling(size: str) -> None:
    note = notes.sign_note(f"{SIGNER.name}\n{size}\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", SIGNER)
    with pytest.raises(IntegrityError):
        notes.open_checkpoint(note, SIGNER.key)


def test_tile_paths_are_those_of_the_specification() -> None:
    assert number_path(1234067) == "x001/x234/067"
    assert hash_path(0, 273, 112) == "tile/0/273.p/112"
