"""What is to be forgotten, as the command, the gateway and the journal of an unfinished forgetting write it."""

from __future__ import annotations

import unicodedata

from msgspec import Struct

from catena.core.errors import InputError, TooLargeError

MAX_TEXTS = 25_000
MIN_BYTES, MAX_CHARS = 4, 4096
# What stands between the parts of a name in addresses, file names and lists.
_JOINTS = (" ", ", ", ",", ".", "_", "-", "+", "")
_MIN_JOINED = 7


class Target(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that holds one of `texts`, or of the names of `persons`, in any form; whole `conversations`, by the
    id of any of their responses; all that keys (by id, or `local`) left: `keys`; and single `files` and `batches`.
    """

    texts: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    conversations: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.texts, self.persons, self.conversations, self.keys, self.files, self.batches))

    def words(self) -> tuple[str, ...]:
        """All texts that are looked for: those given, and persons by every order and joint of their names.

        Raises InputError for one that is too short to be looked for or is no text, TooLargeError for too many.
        """
        found = dict.fromkeys(self.texts)
        for person in self.persons:
            found.update(dict.fromkeys(_names(person)))
        if len(found) > MAX_TEXTS:
            raise TooLargeError(f"{len(found)} texts are more than are forgotten at once ({MAX_TEXTS})")
        for number, text in enumerate(found, 1):
            _check(text, number)
        return tuple(found)


def _check(text: str, number: int) -> None:
    # Not the text itself: errors end up in logs.
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"text {number} is no text: it holds a zero or half a character")
    if len(text) > MAX_CHARS:
        raise InputError(f"text {number} is longer than {MAX_CHARS} characters", hint="a part of it will do")
    if len(fold(text).strip().encode()) < MIN_BYTES:
        raise InputError(
            f"text {number} is too short: it would be found by chance in what has nothing to do with it",
            hint=f"give at least {MIN_BYTES} letters, or two Chinese characters",
        )


def fold(text: str) -> str:
    """`text` without what does not matter: case, width and form of letters, what is invisible, kinds of space."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    folded = folded.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFC", folded).translate(_INVISIBLE)
    return " ".join(folded.split()) if folded.strip() else ""


_INVISIBLE = dict.fromkeys(
    (0xAD, 0x34F, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF)
)


def _names(person: str) -> list[str]:
    parts = person.replace(",", " ").split()
    if len(parts) < 2:
        return [person]
    orders = [parts, parts[::-1], [parts[-1], *parts[:-1]]]
    if len(parts) > 2:
        orders += [[parts[0], parts[-1]], [parts[-1], parts[0]]]
    joined = [joint.join(order) for order in orders for joint in _JOINTS]
    return [person, *(name for name in joined if len(name) >= _MIN_JOINED or not name.isascii())]
