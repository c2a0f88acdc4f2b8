"""Seals items, each with a key of its own: whoever destroys that key makes every copy of the item unreadable at once.

A sealed item is `CV1` || slot (8) || nonce (12) || AES-256-GCM (NIST SP 800-38D) of the text; kind, id and slot are
authenticated with it, so that one item cannot stand in another's place, nor an earlier one in that of a later.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from getpass import getpass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from catena.core.errors import AuditError, CatenaError, ConfigError, IntegrityError, ResourceError
from catena.core.settings import ReachSettings
from catena.reach.vault import slots
from catena.reach.vault.masters import KEY_BYTES, Asking, Lock, Place, destroy, key_of, new_lock
from catena.reach.vault.slots import NONCE_BYTES, Slots
from catena.watch.durable import sync

START = b"CV1"
HEAD_BYTES = len(START) + 8
OVERHEAD_BYTES = HEAD_BYTES + NONCE_BYTES + slots.TAG_BYTES
# Keys are made in advance, ever more at a time: their making is one write and one sync for all.
_FIRST_POOL, _MAX_POOL = 16, 1024
_MAX_REMEMBERED = 4096


class Vault:
    """The open vault of a state folder; for any number of threads. Closed once."""

    def __init__(self, home: Path, lock: Lock, master: bytes, held: int) -> None:
        self._home = home
        self._held = held
        self._slots = Slots(_path(home), master)
        self._master = master
        self._guard = threading.Lock()
        self._pool: list[tuple[int, bytes]] = []
        self._pool_size = _FIRST_POOL
        self._known: OrderedDict[int, tuple[bytes, AESGCM]] = OrderedDict()
        self.lock = lock

    @classmethod
    def open(cls, home: Path, settings: ReachSettings, *, prompt: Callable[[str], str] | None = None) -> Vault:
        """Open the vault of `home`, or make it as the settings say.

        Raises ConfigError if settings and vault differ or a passphrase is missing, IntegrityError if it cannot be
        unlocked, ConflictError while another process locks it anew, ResourceError, MissingExtraError.
        """
        asking = Asking(settings.passphrase_env, os.environ, prompt)
        try:
            (home / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
            held = slots.hold(_guard_path(home), is_alone=False)
        except OSError as error:
            raise ResourceError(
                f"the vault cannot be opened: {error.strerror}", hint="see to the folder keys"
            ) from None
        try:
            if not _path(home).exists():
                _create(home, settings.vault, asking)
            header = slots.read_header(_path(home))
            if header.lock.place != settings.vault:
                raise ConfigError(
                    f"what is kept here is locked by {header.lock.place}, and the settings say {settings.vault}",
                    hint=f"`catena vault rotate --to {settings.vault}` locks it anew",
                    param="reach.vault",
                )
            master = slots.unlock(header, key_of(header.lock, home, asking))
            return cls(home, header.lock, master, held)
        except (CatenaError, OSError) as error:
            os.close(held)
            if isinstance(error, OSError):
                raise ResourceError(f"the vault cannot be opened: {error.strerror}") from None
            raise

    def close(self) -> None:
        """Give the file back, and the keys that were not used."""
        with self._guard:
            unused, self._pool = self._pool, []
            self._known.clear()
            if unused:
                self._slots.burn((number for number, _ in unused), is_durable=False)
            self._slots.close()
            os.close(self._held)

    def seal(self, kind: str, id: str, plain: bytes, slot: int | None = None) -> bytes:
        """`plain`, encrypted as the item `id` of its kind, with a new key or that of a slot. Raises ResourceError."""
        number = self.new_key()[0] if slot is None else slot
        nonce = os.urandom(NONCE_BYTES)
        head = START + number.to_bytes(8, "big")
        return b"".join((head, nonce, self._cipher(number).encrypt(nonce, plain, _bound(kind, id, head))))

    def open_sealed(self, kind: str, id: str, sealed: bytes) -> bytes:
        """What was sealed as this item. Raises NotFoundError if it was forgotten, IntegrityError if it was changed."""
        cipher = self._cipher(slot_in(sealed))
        nonce, data = sealed[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES], memoryview(sealed)[HEAD_BYTES + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, data, _bound(kind, id, sealed[:HEAD_BYTES]))
        except (InvalidTag, ValueError):
            raise IntegrityError(
                f"an item of kind {kind!r} was changed, or put in another's place",
                hint="restore it from a backup, or delete it",
            ) from None

    def forget(self, sealed: Iterable[bytes], *, is_durable: bool = True) -> None:
        """Destroy the keys of sealed items, of which the first HEAD_BYTES are enough. Raises ResourceError.

        What is not sealed has no key, and is passed over.
        """
        self.burn([slot_in(item) for item in sealed if is_sealed(item)], is_durable=is_durable)

    def new_key(self) -> tuple[int, bytes]:
        """A key of 32 bytes that nothing was encrypted with, and its slot."""
        with self._guard:
            if not self._pool:
                self._pool = self._slots.make(self._pool_size)[::-1]
                self._pool_size = min(_MAX_POOL, 2 * self._pool_size)
            number, key = self._pool.pop()
            self._remember(number, key)
            return number, key

    def key(self, number: int) -> bytes:
        """The key in a slot. Raises NotFoundError for a burnt one, IntegrityError."""
        return self._item(number)[0]

    def _cipher(self, number: int) -> AESGCM:
        return self._item(number)[1]

    def _item(self, number: int) -> tuple[bytes, AESGCM]:
        with self._guard:
            return self._known.get(number) or self._remember(number, self._slots.read(number))

    def burn(self, numbers: Iterable[int], *, is_durable: bool = True) -> None:
        """Destroy the keys in these slots. Raises ResourceError."""
        with self._guard:
            numbers = list(numbers)
            for number in numbers:
                self._known.pop(number, None)
            if numbers:
                self._slots.burn(numbers, is_durable=is_durable)

    def _remember(self, number: int, key: bytes) -> tuple[bytes, AESGCM]:
        found = self._known[number] = (key, AESGCM(key))
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)
        return found


def rotate(home: Path, settings: ReachSettings, place: Place, *, prompt: Callable[[str], str] | None = None) -> Lock:
    """Give the vault a new master key and a new lock; items stay as they are. Killed at any moment, one of both opens.

    Raises ConflictError while another process uses it, and what opening raises.
    """
    asking = Asking(settings.passphrase_env, os.environ, prompt)
    held = slots.hold(_guard_path(home), is_alone=True)
    try:
        header = slots.read_header(_path(home))
        master = slots.unlock(header, key_of(header.lock, home, asking))
        lock = new_lock(place, header.lock.id, header.lock.turn + 1)
        # A new passphrase is asked for; the variable holds the one that opened it.
        renewing = Asking(f"{settings.passphrase_env}_NEW", os.environ, prompt)
        outer, fresh = key_of(lock, home, renewing, is_new=True), os.urandom(KEY_BYTES)
        draft = _path(home).with_suffix(".draft")
        old = Slots(_path(home), master)
        try:
            old.copy_to(draft, slots.encode_header(lock, outer, fresh), fresh)
        finally:
            old.close()
        draft.replace(_path(home))
        sync(_path(home).parent)
        destroy(header.lock, home)
        return lock
    except FileNotFoundError:
        raise ConfigError("there is no vault yet", hint="it is made with the first `catena up`") from None
    except OSError as error:
        raise ResourceError(f"the vault cannot be written: {error.strerror}") from None
    finally:
        os.close(held)


def is_sealed(item: bytes) -> bool:
    """Whether `item` begins as sealed ones do."""
    return len(item) >= HEAD_BYTES and item.startswith(START)


def slot_in(sealed: bytes) -> int:
    """The slot of a sealed item. Raises IntegrityError for what is none."""
    if not is_sealed(sealed):
        raise IntegrityError("an item that should be encrypted is not", hint="restore it from a backup, or delete it")
    return int.from_bytes(sealed[len(START) : HEAD_BYTES], "big")


def prompt_on_terminal() -> Callable[[str], str] | None:
    """Asks a person at a terminal without showing what is typed; None where there is no terminal."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    return lambda question: getpass(f"{question}: ")


def _create(home: Path, place: Place, asking: Asking) -> None:
    """Make a vault; of two processes the first one's stays."""
    lock = new_lock(place, os.urandom(4).hex(), 1)
    try:
        outer = key_of(lock, home, asking, is_new=True)
    except AuditError as error:
        raise ResourceError(error.message) from None
    draft = _path(home).with_name(f".vault.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, slots.encode_header(lock, outer, os.urandom(KEY_BYTES)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            _path(home).hardlink_to(draft)
        except FileExistsError:
            destroy(lock, home)
        sync(_path(home).parent)
    finally:
        draft.unlink(missing_ok=True)


def _bound(kind: str, id: str, head: bytes) -> bytes:
    return b"\0".join((head, kind.encode(), id.encode()))


def _path(home: Path) -> Path:
    return home / "keys" / slots.NAME


def _guard_path(home: Path) -> Path:
    return home / "keys" / "vault.lock"
