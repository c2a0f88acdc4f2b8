"""Downloads files in pieces over several connections at once, hashes them while they come, and resumes after a kill.

What is under way at once, over all connections together, is one chunk: NUM_CONNECTIONS requests of one piece each. So
a kill, at whatever moment, costs at most one chunk fetched twice.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import CancelledError, CatenaError, IntegrityError, NetworkError
from catena.store.pull.hub import Refused, RemoteFile
from catena.store.pull.journal import PIECE_BYTES, Journal
from catena.store.pull.web import MAX_REDIRECTS, REDIRECTS, Broken, Patience, Response, Web
from catena.store.rows import Progress, Report

NUM_CONNECTIONS = 4
CHUNK_BYTES = NUM_CONNECTIONS * PIECE_BYTES
# Bytes are written in runs this long, or after this time: the kernel takes few long writes for far less work.
# A new download is at most so far ahead of its hash.
LEAD_PIECES = 2 * NUM_CONNECTIONS
RUN_BYTES, RUN_S, MAX_RUN = 1 << 19, 0.25, 512
READ_BYTES = 256 << 10
REPORT_S, RATE_S, SYNC_S = 0.1, 10.0, 5.0
NUM_REPAIRS = 2
_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\*|\d{1,20})")


class Fetched(Struct, frozen=True):
    """A file that came whole and matches what the hub states: where it is, and its digest."""

    remote: RemoteFile
    path: Path
    digest: str


class _IgnoresRanges(Exception):
    """The server sends the whole file whatever is asked for."""


class _Address:
    """Where a file is read from: the hub's address, and where that redirects to, as long as it works."""

    def __init__(self, web: Web, remote: RemoteFile) -> None:
        self._web = web
        self._remote = remote
        self._direct: str | None = None
        self._is_known = False
        self._lock = threading.Lock()

    def open(self, stack: ExitStack, start: int, end: int) -> Response:
        """The answer to a request for bytes `start` to `end` (excluded), open until `stack` is closed.

        Raises Refused, NetworkError; IntegrityError if the hub now speaks of another file than it listed.
        """
        with self._lock if not self._is_known else nullcontext():  # one asks where the file is, the others wait
            response = self._open(stack, start, end)
            self._is_known = True
        return response

    def _open(self, stack: ExitStack, start: int, end: int) -> Response:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        direct = self._direct
        url = direct or self._remote.url
        for _ in range(MAX_REDIRECTS + 2):
            try:
                response = stack.enter_context(self._web.open(url, headers))
            except Refused as refused:
                if refused.is_passing or url == self._remote.url:
                    raise
                if url != direct:  # the hub had just given it
                    raise NetworkError(f"{urlsplit(url).netloc} answers {refused.status}: {refused.message}") from None
                self._direct = direct = None
                url = self._remote.url
                continue
            self._check_stated(response)
            if response.status not in REDIRECTS:
                self._direct = url if url != self._remote.url else None
                return response
            url = self._web.target(url, response)
            stack.close()
        raise NetworkError(f"{self._web.hub.host} redirects more than {MAX_REDIRECTS} times")

    def _check_stated(self, response: Response) -> None:
        """Compare what the hub says in its headers of a large file with its listing."""
        size, etag = response.get_header("X-Linked-Size"), (response.get_header("X-Linked-Etag") or "").strip('W/"')
        other_size = size is not None and size != str(self._remote.size_bytes)
        if other_size or (self._remote.sha256 and len(etag) == 64 and etag.lower() != self._remote.sha256):
            raise IntegrityError(
                f"{self._web.hub.host} listed another {self._remote.path} than it sends", hint="pull again later"
            )


class _Draft:
    """One file on its way: its draft, journal and address."""

    def __init__(self, web: Web, remote: RemoteFile, folder: Path) -> None:
        self.remote = remote
        self.path = folder / f"{remote.key}.part"
        self.journal = Journal(folder / f"{remote.key}.journal", remote.key, remote.size_bytes)
        self.address = _Address(web, remote)
        self.serial = threading.Lock()
        self.is_serial = False
        if self.path.exists():
            self.path.chmod(0o600)  # a pull that was killed late has closed it to writing
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.fstat(self.descriptor).st_size != remote.size_bytes:
            for number in range(self.journal.num_pieces):
                self.journal.note(number, 0)
            os.ftruncate(self.descriptor, remote.size_bytes)
        self.had_bytes = self.journal.total()
        self.had = [self.journal.is_whole(number) for number in range(self.journal.num_pieces)]

    def write(self, pieces: list[memoryview], offset: int) -> int:
        """Write `pieces` one after another from `offset` on; the offset behind them."""
        while pieces:
            written = os.pwritev(self.descriptor, pieces, offset)
            offset += written
            while pieces and written >= len(pieces[0]):
                written -= len(pieces.pop(0))
            if written:
                pieces[0] = pieces[0][written:]
        return offset

    def close(self) -> None:
        self.journal.close()
        os.close(self.descriptor)


class Download:
    """One pull of several files. Used once, from one thread; `run` starts others and ends them."""

    def __init__(
        self, web: Web, files: Sequence[RemoteFile], folder: Path, what: str, refusal: Callable[[Refused], CatenaError]
    ) -> None:
        self._web = web
        self._what = what
        self._refusal = refusal
        self._drafts = [_Draft(web, remote, folder) for remote in files]
        self._changed = threading.Condition()
        self._errors: list[BaseException] = []
        self._num_left = 0
        self._hashed_bytes = self._num_begun = self._num_hashed = 0
        self.bytes_downloaded = 0

    @property
    def bytes_held(self) -> int:
        """What earlier, interrupted pulls have left of these files."""
        return sum(draft.had_bytes for draft in self._drafts)

    def close(self) -> None:
        """Let go of the drafts; they stay for the next pull."""
        for draft in self._drafts:
            draft.close()

    def run(self, report: Report) -> list[Fetched]:
        """Fetch what is missing and check every digest. Raises IntegrityError, what `refusal` gives and Web raises."""
        if not self._drafts:
            return []
        digests: dict[str, bool] = {}
        found: dict[str, str] = {}

        def hash_all() -> None:
            for draft in self._drafts:
                found[draft.remote.path], digests[draft.remote.path] = self._hash(draft)

        self._together(self._missing(), self._fetch, hash_all, report)
        for draft in self._drafts:
            for _ in range(NUM_REPAIRS):
                if digests[draft.remote.path]:
                    break
                numbers = range(draft.journal.num_pieces)
                self._together(((draft, number) for number in numbers), self._compare, lambda: None, report)
                found[draft.remote.path], digests[draft.remote.path] = self._hash(draft, is_again=True)
            if not digests[draft.remote.path]:
                raise IntegrityError(
                    f"{draft.remote.path} does not match the digest that {self._web.hub.host} states, fetched twice",
                    hint="do not use it; the hub or something on the way to it sends other bytes than were published",
                )
        return [Fetched(draft.remote, draft.path, found[draft.remote.path]) for draft in self._drafts]

    def _missing(self) -> Iterator[tuple[_Draft, int]]:
        for draft in self._drafts:
            for number in range(draft.journal.num_pieces):
                if not draft.had[number]:
                    self._stay_near()
                    yield draft, number

    def _stay_near(self) -> None:
        """Let the hash keep up with a download that began anew: on few cores both then end together, and what is hashed
        soon after it came is still in the caches. One that is taken up again has old pieces to be hashed first."""
        with self._changed:
            while self._num_begun - self._num_hashed > LEAD_PIECES and not self.bytes_held and not self._errors:
                self._changed.wait(1.0)
            self._num_begun += 1

    def _together(
        self,
        tasks: Iterable[tuple[_Draft, int]],
        work: Callable[[_Draft, int], None],
        beside: Callable[[], None],
        report: Report,
    ) -> None:
        """Do `work` for every task on NUM_CONNECTIONS threads, and `beside` on one more; report from this one."""
        todo, lock = iter(tasks), threading.Lock()

        def take() -> None:
            while not self._errors:
                with lock:
                    task = next(todo, None)
                if task is None:
                    return
                work(*task)
                with self._changed:
                    self._changed.notify_all()

        jobs = [*[take] * NUM_CONNECTIONS, beside]
        self._num_left = len(jobs)
        threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in jobs]
        try:
            for thread in threads:
                thread.start()
            self._watch(report)
        finally:
            if self._num_left:
                self._web.close()  # an error or an interrupt: end what the others wait for
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            self._sync()
        if self._errors:
            real = [error for error in self._errors if not isinstance(error, CancelledError)]
            raise (real or self._errors)[0]

    def _guarded(self, job: Callable[[], None]) -> None:
        """Run `job` on its thread and keep its error for the thread that reports."""
        error: BaseException | None = None
        try:
            job()
        except Refused as refused:
            error = self._refusal(refused)
        except (CatenaError, OSError, MemoryError, ValueError) as caught:
            error = caught
        with self._changed:
            self._num_left -= 1
            if error is not None:
                self._errors.append(error)
            self._changed.notify_all()

    def _watch(self, report: Report) -> None:
        """Report progress, with the rate of the last RATE_S, until all is done or something failed."""
        seen = deque([(monotonic_s(), 0)])
        total = sum(draft.remote.size_bytes for draft in self._drafts)
        synced_s, told = seen[0][0], -1
        while True:
            with self._changed:
                if self._num_left and not self._errors:
                    self._changed.wait(REPORT_S)
                is_over = not self._num_left or bool(self._errors)
            now_s = monotonic_s()
            if is_over or now_s - seen[-1][0] >= REPORT_S:
                seen.append((now_s, self.bytes_downloaded))
                while len(seen) > 2 and now_s - seen[1][0] > RATE_S:
                    seen.popleft()
                rate = (seen[-1][1] - seen[0][1]) / max(1e-3, now_s - seen[0][0])
                done = min(total, self.bytes_held + self.bytes_downloaded)
                if told < total:
                    report(Progress("download", self._what, done, total, rate or None))
                    told = done
                if told == total:  # what an earlier pull left may still have to be hashed
                    report(Progress("check", self._what, min(total, self._hashed_bytes), total))
            if is_over:
                return
            if now_s - synced_s >= SYNC_S:
                self._sync()
                synced_s = monotonic_s()

    def _sync(self) -> None:
        """Make durable what came, so that a crash of the machine costs little; a whole file is synced by the store."""
        for draft in self._drafts:
            if 0 < draft.journal.total() < draft.remote.size_bytes:
                draft.journal.sync(draft.descriptor)

    def _count(self, num_bytes: int) -> None:
        with self._changed:
            self.bytes_downloaded += num_bytes

    def _fetch(self, draft: _Draft, number: int) -> None:
        """Bring the rest of one piece, trying again while that helps."""
        patience = Patience(self._web)
        while not draft.journal.is_whole(number):
            before = draft.journal.landed(number)
            try:
                if draft.is_serial:
                    self._stream(draft)
                else:
                    self._read(draft, number)
            except _IgnoresRanges:
                draft.is_serial = True
            except (Refused, NetworkError) as error:
                if draft.journal.landed(number) > before:
                    patience.renew()
                patience.wait(error)

    def _read(self, draft: _Draft, number: int) -> None:
        """Ask for the rest of a piece and write it as it comes."""
        start = offset = number * PIECE_BYTES + draft.journal.landed(number)
        end = number * PIECE_BYTES + draft.journal.length(number)
        with ExitStack() as stack:
            response = draft.address.open(stack, start, end)
            self._check_range(draft, response, start, end)
            for run in self._runs(response, end - start):
                offset = draft.write(run, offset)
                draft.journal.note(number, offset - number * PIECE_BYTES)
        if offset == start:
            raise NetworkError(f"{self._web.hub.host} sends nothing of {draft.remote.path}", hint="pull again later")

    def _stream(self, draft: _Draft) -> None:
        """Read a whole file from its start, on one thread: for servers that know no ranges."""
        journal, offset = draft.journal, 0
        with draft.serial, ExitStack() as stack:
            if journal.total() == journal.size_bytes:
                return
            response = draft.address.open(stack, 0, journal.size_bytes)
            for run in self._runs(response, journal.size_bytes):
                first, offset = offset // PIECE_BYTES, draft.write(run, offset)
                for number in range(first, -(-offset // PIECE_BYTES)):
                    came = min(journal.length(number), offset - number * PIECE_BYTES)
                    journal.note(number, max(came, journal.landed(number)))
                with self._changed:
                    self._changed.notify_all()
        if offset < journal.size_bytes:
            raise NetworkError(f"{self._web.hub.host} sends less of {draft.remote.path} than it has")

    def _compare(self, draft: _Draft, number: int) -> None:
        """Fetch a whole piece again; where it differs from what came first, this one is kept."""
        if draft.is_serial:
            draft.journal.note(number, 0)
            return self._fetch(draft, number)
        patience, start, length = Patience(self._web), number * PIECE_BYTES, draft.journal.length(number)
        again = bytearray()
        while len(again) < length:
            before = len(again)
            try:
                with ExitStack() as stack:
                    response = draft.address.open(stack, start + before, start + length)
                    self._check_range(draft, response, start + before, start + length)
                    for run in self._runs(response, length - before):
                        again += b"".join(run)
            except (Refused, NetworkError) as error:
                if len(again) > before:
                    patience.renew()
                patience.wait(error)
        if os.pread(draft.descriptor, length, start) != bytes(again):
            draft.write([memoryview(again)], start)
        return None

    def _check_range(self, draft: _Draft, response: Response, start: int, end: int) -> None:
        """Raises _IgnoresRanges for an answer with the whole file, NetworkError for one with anything else."""
        size = draft.remote.size_bytes
        if (response.get_header("Content-Encoding") or "identity") != "identity":
            raise NetworkError(f"{self._web.hub.host} packs what was asked for as it is")
        if response.status == HTTPStatus.OK:
            stated = response.get_header("Content-Length")
            if stated is not None and stated != str(size):
                raise NetworkError(
                    f"{self._web.hub.host} says {draft.remote.path} has {stated} bytes, and listed {size}",
                    hint="pull again later: it may just have been replaced",
                )
            if (start, end) != (0, size):
                raise _IgnoresRanges
            return
        found = _RANGE.fullmatch(response.get_header("Content-Range") or "")
        if found is None or int(found[1]) != start or int(found[2]) >= end or found[3] not in ("*", str(size)):
            raise NetworkError(f"{self._web.hub.host} sends another part of {draft.remote.path} than was asked for")

    def _runs(self, response: Response, num_bytes: int) -> Iterator[list[memoryview]]:
        """The body in runs to be written, at most `num_bytes` of it, whatever the server goes on to send."""
        reader, left, broken = response.body_reader, num_bytes, None
        run, num_run, since_s = list[memoryview](), 0, monotonic_s()
        while left > 0:
            piece = None
            try:
                piece = reader.read_chunk()
            except Broken as error:
                broken = error  # what came before is kept
            if piece is not None:
                view = memoryview(piece)[:left]
                run.append(view)
                num_run, left = num_run + len(view), left - len(view)
            is_due = num_run >= RUN_BYTES or len(run) >= MAX_RUN or monotonic_s() - since_s > RUN_S
            if run and (is_due or piece is None or not left):
                yield run
                with self._changed:
                    self.bytes_downloaded += num_run
                run, num_run, since_s = [], 0, monotonic_s()
            if broken is not None:
                raise broken
            if piece is None:
                return
            if self._errors:
                raise CancelledError("the pull was stopped")

    def _hash(self, draft: _Draft, *, is_again: bool = False) -> tuple[str, bool]:
        """The SHA-256 of a file, hashed from its front as that grows, and whether it is what the hub states."""
        journal, remote = draft.journal, draft.remote
        total = hashlib.sha256()
        blob = hashlib.sha1(f"blob {remote.size_bytes}\0".encode(), usedforsecurity=False)
        hashes = [total] if remote.sha256 else [total, blob]
        for number in range(journal.num_pieces):
            self._await(draft, number)
            start, length = number * PIECE_BYTES, journal.length(number)
            self._hashed_bytes += length
            if self.bytes_held or is_again:
                # It may have to come from the disk, whose errors a mapped read would not survive.
                for offset in range(start, start + length, READ_BYTES):
                    data = os.pread(draft.descriptor, min(READ_BYTES, start + length - offset), offset)
                    for each in hashes:
                        each.update(data)
                continue
            with (
                mmap.mmap(draft.descriptor, length, prot=mmap.PROT_READ, offset=start) as mapped,
                memoryview(mapped) as view,
            ):
                for each in hashes:
                    each.update(view)
            with self._changed:
                self._num_hashed += 1
                self._changed.notify_all()
        is_right = total.hexdigest() == remote.sha256 if remote.sha256 else blob.hexdigest() == remote.git_sha1
        return f"sha256:{total.hexdigest()}", is_right

    def _await(self, draft: _Draft, number: int) -> None:
        """Wait until a piece is whole. Raises CancelledError if it will not be, because something failed."""
        with self._changed:
            while not draft.journal.is_whole(number):
                if self._errors:
                    raise CancelledError("the pull was stopped")
                self._changed.wait(1.0)
