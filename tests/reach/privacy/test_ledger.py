"""What was labelled is found again, in whole, in part, encoded or backwards, and what was not is not."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from catena.core.messages import PUBLIC, Label
from catena.reach.privacy.ledger import Ledger
from catena.store.database import Database

SECRET = Label("secret", ("customer:x",))
TEXT = (
    "The merger with Vantreight closes on the ninth of March, and until then nobody outside the board may hear of it."
    " The price that was agreed is four hundred million, of which a third is paid in shares."
)
KEY = "canary-7f3a9c2e41d8"


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger(b"secret of a test")
    made.note(TEXT, SECRET)
    made.note(f"the key is {KEY}", SECRET)
    return made


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"Please translate: {TEXT.upper()}!",
        TEXT[40:150],
        TEXT.replace(" ", "\n"),
        base64.b64encode(TEXT.encode()).decode(),
        TEXT.encode().hex(),
        quote(TEXT),
        TEXT[::-1],
        KEY,
        f'{{"password": "{KEY}"}}',
        KEY[::-1],
    ],
    ids=["whole", "quoted", "part", "broken", "base64", "hex", "url", "reversed", "word", "json", "word reversed"],
)
def test_it_is_found_again(ledger: Ledger, text: str) -> None:
    assert ledger.find(text) == SECRET


@pytest.mark.parametrize(
    "text", ["", "yes", "What does a merger cost?", "The ninth of March", "Four hundred million people live there."]
)
def test_other_texts_are_not(ledger: Ledger, text: str) -> None:
    assert ledger.find(text) == PUBLIC


def test_labels_of_one_text_join_and_what_is_forgotten_is_gone(ledger: Ledger) -> None:
    ledger.note(TEXT, Label("personal", ("medical",)))
    assert ledger.find(TEXT) == Label("secret", ("customer:x", "medical"))
    assert ledger.forget(TEXT)
    assert ledger.find(TEXT) == PUBLIC


def test_a_session_keeps_the_join_of_all_that_went_through_it(ledger: Ledger) -> None:
    ledger.stick("k1", "s", Label("personal"))
    ledger.stick("k1", "s", Label("internal", ("medical",)))
    assert ledger.session("k1", "s") == Label("personal", ("medical",))
    assert ledger.session("k2", "s") == ledger.session("k1", "") == PUBLIC


def test_a_restart_forgets_nothing_and_the_table_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    table = Database(path)
    first = Ledger(b"one", table)
    first.note(TEXT, SECRET)
    first.stick("k1", "s", SECRET)
    table.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Vantreight" not in held and b"vantreight" not in held
    again = Database(path)
    assert Ledger(b"one", again).find(TEXT) == SECRET
    assert Ledger(b"one", again).session("k1", "s") == SECRET
    assert Ledger(b"other", again).find(TEXT) == PUBLIC, "the fingerprints are keyed"
    again.close()
