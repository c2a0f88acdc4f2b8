"""What a batch has answered so far: each line is on the disk before it counts, and is written once.

Two files grow: `output.jsonl` with answers, `errors.jsonl` with errors. Their last lines may be torn by a kill; they
are cut off when the journal is opened again, and their requests are run again. In a vault each line is sealed, and
stands there in base64.
"""

from __future__ import annotations

import base64
import binascii
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError, NotFoundError, ResourceError
from catena.reach.batches.batch import Counts, Spent
from catena.reach.sealing import replace
from catena.reach.vault.vault import Vault, slot_in
from catena.watch.durable import sync, sync_data

OUTPUT, ERRORS = "output.jsonl", "errors.jsonl"
KIND = "batch line"


class Entry(Struct, frozen=True):
    """One finished request as its line will stand in a file, without the end of the line."""

    custom_id: str
    text: bytes
    is_error: bool
    spent: Spent = Spent()


class _Details(Struct, frozen=True):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(Struct, frozen=True):
    """Tokens as any of the endpoints names them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    def spent(self) -> Spent:
        before = self.prompt_tokens_details or self.input_tokens_details or _Details()
        after = self.completion_tokens_details or self.output_tokens_details or _Details()
        return Spent(
            self.prompt_tokens or self.input_tokens,
            self.completion_tokens or self.output_tokens,
            before.cached_tokens,
            after.reasoning_tokens,
        )


class _Body(Struct, frozen=True):
    usage: _Usage | None = None


class _Response(Struct, frozen=True):
    body: msgspec.Raw


class _Written(Struct, frozen=True):
    custom_id: str
    response: _Response | None = None


def spent_in(body: bytes) -> Spent:
    """The tokens that the body of an answer names; none where it names them in a way of its own."""
    try:
        usage = msgspec.json.decode(body, type=_Body).usage
    except msgspec.ValidationError:
        return Spent()
    return usage.spent() if usage else Spent()


class Journal:
    """The finished lines of one batch, in `folder`. `done` are their names; appending blocks, on any thread."""

    def __init__(self, folder: Path, total: int, vault: Vault | None = None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.done: set[str] = set()
        self.spent = Spent()
        self._total = total
        self._counts = {OUTPUT: 0, ERRORS: 0}
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        self._vault = vault
        self._slot = vault.new_key()[0] if vault is not None else -1
        self._folder = folder
        for name in (OUTPUT, ERRORS):
            self._recover(folder / name)
        sync(folder)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()

    @property
    def counts(self) -> Counts:
        """What is on the disk."""
        return Counts(self._total, self._counts[OUTPUT], self._counts[ERRORS])

    def append(self, entries: Sequence[Entry], *, is_durable: bool = True) -> None:
        """Write entries, durably unless told otherwise, then count them. Raises ResourceError; none is written then.

        What is not durable can be written again, and becomes so when the file finds its place.
        """
        for name, wanted in ((OUTPUT, False), (ERRORS, True)):
            chosen = [entry for entry in entries if entry.is_error is wanted]
            if chosen:
                with self._lock:
                    self._write(self._files[name], self._lines(name, [entry.text for entry in chosen]), is_durable)
                    for entry in chosen:
                        self._count(name, entry.custom_id, entry.spent)

    def _lines(self, name: str, texts: Sequence[bytes]) -> bytes:
        """Texts as they stand in a file."""
        if self._vault is not None:
            id = _id(self._folder / name)
            texts = [base64.b64encode(self._vault.seal(KIND, id, text, self._slot)) for text in texts]
        return b"".join(text + b"\n" for text in texts)

    def _count(self, name: str, custom_id: str, spent: Spent) -> None:
        self._counts[name] += 1
        self.done.add(custom_id)
        if name == OUTPUT:
            self.spent += spent

    def _write(self, descriptor: int, data: bytes, is_durable: bool) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            if is_durable:
                sync_data(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, end)
            raise ResourceError(
                f"the answers of a batch cannot be written: {error.strerror}",
                hint="free space on the disk that holds CATENA_HOME",
            ) from error

    def _recover(self, path: Path) -> None:
        """Count the whole lines of a file, and cut off what follows them."""
        if self._vault is not None:
            self._adopt(path)
        descriptor = self._files[path.name] = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        end = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    written = msgspec.json.decode(_opened(path, line, self._vault), type=_Written)
                except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, IntegrityError, NotFoundError):
                    break
                spent = spent_in(bytes(written.response.body)) if written.response else Spent()
                self._count(path.name, written.custom_id, spent)
                end += len(line)
        os.ftruncate(descriptor, end)

    def _adopt(self, path: Path) -> None:
        """Seal a file that an earlier version left as it was."""
        if not path.exists() or not path.read_bytes().startswith(b"{"):
            return
        draft = path.with_name(f"{path.name}.sealing")
        texts = [line[:-1] for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        draft.write_bytes(self._lines(path.name, texts))
        replace(draft, path)


def lines(path: Path, vault: Vault | None) -> Generator[bytes]:
    """The lines of a journal's file as they were appended, without their ends. Raises IntegrityError, NotFoundError."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _opened(path, line, vault).removesuffix(b"\n")


def burn(folder: Path, vault: Vault) -> None:
    """Destroy the keys of all lines of a journal, durably."""
    slots: set[int] = set()
    for name in (OUTPUT, ERRORS):
        try:
            with (folder / name).open("rb") as file:
                for line in file:
                    with suppress(binascii.Error, IntegrityError):  # torn, or from before the vault
                        slots.add(slot_in(base64.b64decode(line[:16])))
        except FileNotFoundError:
            continue
    vault.burn(slots)


def _opened(path: Path, line: bytes, vault: Vault | None) -> bytes:
    return line if vault is None else vault.open_sealed(KIND, _id(path), base64.b64decode(line))


def _id(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def counted(folder: Path, total: int) -> Counts:
    """How many lines lie in `folder`, without opening the journal."""
    found = [_num_lines(folder / name) for name in (OUTPUT, ERRORS)]
    return Counts(total, *found)


def _num_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for text in file if text.endswith(b"\n"))
    except FileNotFoundError:
        return 0
