"""Remembers what was labelled, by keyed fingerprints, so that a label finds its content again wherever it turns up.

A session keeps the join of all that went through it. A piece keeps its own: its whole text, its runs of words, and
single words that are too rare to be chance. Of the text itself nothing is kept.
"""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from catena.core.clock import now_ns
from catena.core.messages import PUBLIC, Label, join
from catena.reach.privacy.folding import views

# So many words in a row are one fingerprint. Of a text of more than MANY words, of WINDOW neighbours the least is kept
# (winnowing: S. Schleimer, D. Wilkerson, A. Aiken, SIGMOD 2003): RUN + WINDOW - 1 = 9 words in a row are found.
RUN, WINDOW, MANY = 6, 4, 2000
# A text of fewer than RUN words is found again as a whole, if it has so many; shorter ones are said by everybody.
WHOLE = 3
# A word of this many letters and digits, or half of it with both, is found again by itself.
RARE = 20
# Of such a word with digits in it, every stretch of so many characters is kept, up to MAX_WORD.
PART, MAX_WORD = 8, 512
# Of one text so many fingerprints at most; what is longer is found by its beginning, its whole, and its session.
MAX_PRINTS = 20_000
MAX_ROWS = 2_000_000
_WORD = re.compile(r"[0-9A-Za-z_]+|[^\W0-9A-Za-z_]")
MIGRATION = (
    "labels",
    "CREATE TABLE prints (print BLOB PRIMARY KEY, label TEXT NOT NULL, at_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX prints_by_age ON prints (at_ns)",
    "CREATE TABLE sessions (session BLOB PRIMARY KEY, label TEXT NOT NULL, at_ns INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID",
)


class Table(Protocol):
    """The SQL database that fingerprints are kept in."""

    def migrate(self, name: str, *statements: str) -> None: ...

    def read(self, statement: str, values: Sequence[object] = (), /) -> list[tuple[object, ...]]: ...

    def write(self, statement: str, values: Sequence[object] = (), /) -> int: ...


class Ledger:
    """Labels by fingerprint, keyed with `secret`: whoever reads the table without it learns nothing of short texts.

    Everything known is held in memory too, so that looking up costs no query. With `table` None it lasts as long as
    the process.
    """

    def __init__(self, secret: bytes, table: Table | None = None) -> None:
        self._secret = hmac.digest(secret, b"catena labels of fingerprints", "sha256")
        self._table = table
        self._lock = threading.Lock()
        self._prints: dict[bytes, Label] = {}
        self._sessions: dict[bytes, Label] = {}
        # The fewest words of a text that was kept as a whole; of what an earlier process kept, that is not known.
        self._shortest = RUN
        if table is not None:
            table.migrate(*MIGRATION)
            self._shortest = WHOLE
            self._prints = {bytes(key): Label.parse(str(label)) for key, label in _rows(table, "print", "prints")}
            self._sessions = {bytes(key): Label.parse(str(label)) for key, label in _rows(table, "session", "sessions")}

    def session(self, caller: str, session: str) -> Label:
        """What has gone through this session of this caller; PUBLIC for "", which is no session."""
        return self._sessions.get(self._key(caller, session), PUBLIC) if session else PUBLIC

    def stick(self, caller: str, session: str, label: Label) -> None:
        """From now on everything in this session is at least `label`. Durable when this returns."""
        if not session or label == PUBLIC:
            return
        self._keep("sessions", "session", self._sessions, {self._key(caller, session)}, label)

    def note(self, text: str, label: Label, *, least: int = WHOLE) -> None:
        """From now on `text`, and long parts of it, are at least `label` wherever they turn up. Durable.

        Of fewer words than `least`, only the rare ones are.
        """
        if label == PUBLIC or not text.strip():
            return
        found = {key for turned in _turned(text) for key in self._kept_of(turned, least)}
        self._keep("prints", "print", self._prints, found, label)

    def find(self, text: str) -> Label:
        """The join of the labels of everything known in `text`: plain, folded, decoded, or backwards."""
        if not self._prints or not text:
            return PUBLIC
        known = self._prints
        return join({known[key] for view in views(text) for key in self._all_of(view.text) if key in known})

    def forget(self, text: str) -> int:
        """Remove the fingerprints of `text`; how many there were."""
        keys = {key for turned in _turned(text) for key in self._kept_of(turned)}
        with self._lock:
            known = [key for key in keys if self._prints.pop(key, None) is not None]
            if self._table is not None:
                for key in known:
                    self._table.write("DELETE FROM prints WHERE print = ?", (key,))
        return len(known)

    def _keep(self, table: str, column: str, kept: dict[bytes, Label], keys: Iterable[bytes], label: Label) -> None:
        with self._lock:
            raised = {key: joined for key in keys if (joined := kept.get(key, PUBLIC) | label) != kept.get(key)}
            if self._table is not None:
                at_ns, rows = now_ns(), list(raised.items())
                for start in range(0, len(rows), 300):
                    part = rows[start : start + 300]
                    marks = ",".join(["(?, ?, ?)"] * len(part))
                    values = [value for key, joined in part for value in (key, ",".join(joined.names), at_ns)]
                    self._table.write(f"INSERT OR REPLACE INTO {table} ({column}, label, at_ns) VALUES {marks}", values)  # noqa: S608
            kept.update(raised)
            if len(kept) > MAX_ROWS:
                self._shrink(table, column, kept)

    def _shrink(self, table: str, column: str, kept: dict[bytes, Label]) -> None:
        """Let the oldest tenth go."""
        for key in list(kept)[: MAX_ROWS // 10]:
            del kept[key]
        if self._table is not None:
            inner = f"SELECT {column} FROM {table} ORDER BY at_ns LIMIT {MAX_ROWS // 10}"  # noqa: S608
            self._table.write(f"DELETE FROM {table} WHERE {column} IN ({inner})")  # noqa: S608

    def _kept_of(self, text: str, least: int = WHOLE) -> Iterator[bytes]:
        """What is kept of a labelled text."""
        words = _WORD.findall(text.casefold())
        yield from self._rare(words)
        if len(words) < RUN:
            if len(words) >= least:
                self._shortest = min(self._shortest, len(words))
                yield self._print(" ".join(words))
            return
        starts: Iterable[int] = range(len(words) - RUN + 1)
        if len(words) > MANY:
            starts = _winnowed([hash_of(words, start) for start in starts])
        for start, _ in zip(starts, range(MAX_PRINTS), strict=False):
            yield self._print(" ".join(words[start : start + RUN]))

    def _all_of(self, text: str) -> Iterator[bytes]:
        """Everything of a text that could be kept of another one."""
        words = _WORD.findall(text.casefold())
        yield from self._rare(words)
        for word in words:
            if len(word) >= PART and not is_rare(word) and any(letter.isdigit() for letter in word):
                yield from self._parts(word)
        for size in range(self._shortest, RUN + 1):
            for start in range(len(words) - size + 1):
                yield self._print(" ".join(words[start : start + size]))

    def _rare(self, words: list[str]) -> Iterator[bytes]:
        for word in dict.fromkeys(words):
            if is_rare(word):
                yield self._print(word)
                if any(letter.isdigit() for letter in word):
                    yield from self._parts(word)

    def _parts(self, word: str) -> Iterator[bytes]:
        """Every stretch of a word that is a key or a number, so that a part of it is found too."""
        for start in range(min(len(word), MAX_WORD) - PART + 1):
            yield self._print(word[start : start + PART])

    def _print(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "replace"), digest_size=12, key=self._secret).digest()

    def _key(self, caller: str, session: str) -> bytes:
        return self._print(f"session\0{caller}\0{session}")


def _turned(text: str) -> Iterator[str]:
    """A text as it is kept: each view of it, forwards and backwards."""
    for view in views(text):
        yield view.text
        yield view.text[::-1]


def is_rare(word: str) -> bool:
    """Whether a word alone tells that a text is the same: long, or letters mixed with several digits."""
    if len(word) >= RARE:
        return True
    num_digits = sum(letter.isdigit() for letter in word)
    return num_digits >= 3 and len(word) >= RARE // 2


def hash_of(words: list[str], start: int) -> int:
    """A number for a run of words that chooses which runs are kept; the same in every process."""
    number = 0
    for word in words[start : start + RUN]:
        number = (number * 1_000_003 + len(word) * 31 + ord(word[0]) * 7 + ord(word[-1])) & 0xFFFFFFFF
    return number * 2_654_435_761 & 0xFFFFFFFF


def _winnowed(numbers: list[int]) -> Iterator[int]:
    """Where the least of every WINDOW neighbours is, the last of equal ones, each place once."""
    last = -1
    for start in range(max(len(numbers) - WINDOW + 1, 1 if numbers else 0)):
        window = numbers[start : start + WINDOW]
        least = min(window)
        place = start + len(window) - 1 - window[::-1].index(least)
        if place != last:
            last = place
            yield place


def _rows(table: Table, column: str, name: str) -> list[tuple[bytes, object]]:
    found = table.read(f"SELECT {column}, label FROM {name} ORDER BY at_ns")  # noqa: S608
    return [(bytes(key), label) for key, label in found]  # type: ignore[arg-type]
