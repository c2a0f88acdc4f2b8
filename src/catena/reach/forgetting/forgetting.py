"""Forgets what a target names: keys first, then rows and files; a signed record stays, and a scan says what is left.

The intent is noted, sealed, before anything goes, and taken back at the end: a kill between the two is made good by
the next start, or by the next forgetting. Every step can be done again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import BusyError, ConflictError, InputError, ResourceError
from catena.core.messages import Decision
from catena.reach import sealing
from catena.reach.batches import Runner
from catena.reach.forgetting import places
from catena.reach.forgetting.finding import Found, Stores, find
from catena.reach.forgetting.forms import Forms
from catena.reach.forgetting.intent import Intent
from catena.reach.forgetting.places import Left
from catena.reach.forgetting.scan import scan
from catena.reach.forgetting.target import Target
from catena.reach.ticket import Appends, Caller, Salts, Ticket
from catena.reach.vault.vault import Vault

DOOR = "catena.forget"
# What comes in meanwhile may hold the same: so often it is looked for again.
MAX_ROUNDS = 5
STOP_S = 30.0
_POLL_S = 0.05


class Signs(Salts, Protocol):
    """Gives salts, and destroys them."""

    def burn_salts(self, receipts: set[str], /) -> int: ...


class Report(Struct, frozen=True):
    """What went, or with `is_dry` would go; `left` is what still holds a text and why. `receipt` names the record.

    `unreadable` items were changed or damaged: what they hold is not known.
    """

    answers: int = 0
    files: int = 0
    batches: int = 0
    departures: int = 0
    key_names: int = 0
    salts: int = 0
    unreadable: int = 0
    others: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    scanned_files: int = 0
    scanned_bytes: int = 0
    is_dry: bool = False
    receipt: str = ""

    @property
    def num_items(self) -> int:
        """How many items there were."""
        return self.answers + self.files + self.batches + self.departures + self.key_names + len(self.others)


class Forgetting:
    """For the one process that has the state folder open for writing. One forgetting runs at a time.

    `unload` has engines give up what they hold in memory; `clear_prompts` deletes what they left on the disk.
    """

    def __init__(
        self,
        home: Path,
        vault: Vault,
        stores: Callable[[], Stores],
        runner: Runner,
        log: Appends,
        signer: Signs,
        *,
        unload: Callable[[], Awaitable[None]],
        clear_prompts: Callable[[], None],
    ) -> None:
        self._home = home
        self._stores = stores
        self._runner = runner
        self._log = log
        self._signer = signer
        self._unload = unload
        self._clear_prompts = clear_prompts
        self._intent = Intent(home, vault)
        self._turn = anyio.Lock()

    async def resume(self) -> Report | None:
        """Finish what a kill broke off; None if there was nothing. Raises as `run` does."""
        async with self._turn:
            target = await anyio.to_thread.run_sync(self._intent.read)
            return None if target is None else await self._finish(target, Caller(door=DOOR))

    async def preview(self, target: Target) -> Report:
        """What `run` would forget now. Raises InputError."""
        forms = await anyio.to_thread.run_sync(_forms, target)
        found = await anyio.to_thread.run_sync(self._find, target, forms)
        others = await anyio.to_thread.run_sync(places.others, self._home, forms)
        return _report(found, tuple(others), is_dry=True)

    async def run(self, target: Target, caller: str = "local") -> Report:
        """Forget; goes on to its end even if the caller is cancelled.

        Raises InputError for a target that names nothing or too little, AuditError, ResourceError, ConflictError when a
        batch cannot be stopped: what was begun is then finished by the next start or the next forgetting.
        """
        await anyio.to_thread.run_sync(_forms, target)
        with anyio.CancelScope(shield=True):
            async with self._turn:
                pending = await anyio.to_thread.run_sync(self._intent.read)
                if pending is not None:
                    await self._finish(pending, Caller(door=DOOR))
                await anyio.to_thread.run_sync(self._intent.write, target)
                return await self._finish(target, Caller(caller, DOOR))
        raise AssertionError("a shielded scope is not cancelled")

    async def _finish(self, target: Target, caller: Caller) -> Report:
        decision = Decision("local", _reason(target), "forget")
        ticket = await Ticket.open(
            self._log,
            self._signer,
            caller=caller,
            task="forget",
            decision=decision,
            question=msgspec.json.encode(target),
        )
        try:
            report = await anyio.to_thread.run_sync(self._forget, target)
            if report.num_items:
                await self._unload()
            await anyio.to_thread.run_sync(self._clear_prompts)
            report = msgspec.structs.replace(report, receipt=ticket.receipt)
            await ticket.close("complete", answer=msgspec.json.encode(report))
        except BaseException as error:
            await ticket.close("failed", error=error)
            raise
        await anyio.to_thread.run_sync(self._intent.end)
        return report

    def _find(self, target: Target, forms: Forms) -> Found:
        return find(self._stores(), target, forms)

    def _forget(self, target: Target) -> Report:
        """Everything but the record of it. Blocks."""
        forms = _forms(target)
        all_found, found = Found(), Found()
        for _ in range(MAX_ROUNDS):
            found = self._find(target, forms)
            if not found:
                break
            self._destroy(found)
            _add(all_found, found)
        all_found.unreadable = found.unreadable
        salts = self._signer.burn_salts(all_found.receipts)
        others = places.destroy(self._home, places.others(self._home, forms))
        seen = scan(self._home, forms, is_wanted=lambda path: not places.is_model(self._home, path)) if forms else None
        if seen is not None and any(hit.path.startswith(places.DATABASE) for hit in seen.hits):
            try:
                sealing.scrub(self._stores().database)
                seen = scan(self._home, forms, is_wanted=lambda path: not places.is_model(self._home, path))
            except (BusyError, ResourceError):  # then it is told as left
                pass
        left = tuple(places.left(hit) for hit in seen.hits) if seen else ()
        report = _report(all_found, tuple(others), salts=salts, left=left)
        if seen is None:
            return report
        return msgspec.structs.replace(report, scanned_files=seen.files, scanned_bytes=seen.bytes)

    def _destroy(self, found: Found) -> None:
        """First every key, so that nothing found can be read any more; then what was locked by them."""
        stores = self._stores()
        running = [id for id in found.batches if self._runner.is_running(id)]
        for id in running:
            self._stop(id)
        for batch in stores.batches.each() if running else ():
            if batch.id in running:  # its end brought files
                found.files |= {id for id in (batch.output_file_id, batch.error_file_id) if id is not None}
        if stores.archive is not None:
            stores.archive.burn(found.answers)
        stores.files.burn(found.files)
        stores.batches.burn(found.batches)
        stores.shelf.burn(found.departures)
        if stores.archive is not None:
            stores.archive.drop(found.answers)
        stores.batches.drop(found.batches)
        stores.files.drop(found.files)
        stores.shelf.drop(found.departures)
        for id in found.key_names:
            stores.keys.write("UPDATE keys SET name = id WHERE id = ?", (id,))
        stores.database.read("PRAGMA wal_checkpoint(TRUNCATE)")

    def _stop(self, id: str) -> None:
        """End the work on a batch. Raises ConflictError when it does not end."""
        anyio.from_thread.run_sync(self._runner.stop, id)
        end_s = monotonic_s() + STOP_S
        while self._runner.is_running(id):
            if monotonic_s() > end_s:
                raise ConflictError(f"the work on {id} does not end", hint="stop the gateway, and forget again")
            time.sleep(_POLL_S)


def _forms(target: Target) -> Forms:
    """The forms of all texts of a target. Raises InputError, TooLargeError."""
    if not target:
        raise InputError("nothing was named that could be forgotten", hint="see `catena forget --help`")
    return Forms(target.words())


def _reason(target: Target) -> str:
    """What a record says of a target: how much of what, never what."""
    counts = {name: len(getattr(target, name)) for name in Target.__struct_fields__}
    return "to be forgotten: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _add(total: Found, found: Found) -> None:
    for name in ("answers", "files", "batches", "departures", "key_names", "receipts"):
        getattr(total, name).update(getattr(found, name))


def _report(
    found: Found, others: tuple[str, ...], *, salts: int = 0, left: tuple[Left, ...] = (), is_dry: bool = False
) -> Report:
    return Report(
        answers=len(found.answers),
        files=len(found.files),
        batches=len(found.batches),
        departures=len(found.departures),
        key_names=len(found.key_names),
        salts=salts,
        unreadable=found.unreadable,
        others=others,
        left=left,
        is_dry=is_dry,
    )


__all__ = ["Forgetting", "Report"]
