"""Puts the chain together for one state folder: key, store, audit log, scheduler, router, and the door before them."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from catena.core import config, registry
from catena.core.errors import CatenaError
from catena.core.manifest import StoredModel
from catena.core.settings import ReachSettings, Settings
from catena.reach.access import Access
from catena.reach.archive import Archive
from catena.reach.batches import Batches, Files, Runner
from catena.reach.egress.keeping import Shelf
from catena.reach.forgetting import Forgetting
from catena.reach.forgetting.finding import Stores
from catena.reach.gateway.application import Gateway, create
from catena.reach.router import Router
from catena.reach.sealing import scrub_once, seal_answers
from catena.reach.ticket import Caller
from catena.reach.trace import Trace, trace
from catena.reach.vault.vault import Vault, prompt_on_terminal
from catena.run import devices
from catena.run.scheduler import Scheduler
from catena.run.scheduler.status import SessionStatus
from catena.store import Row, Store
from catena.store.database import Database
from catena.store.prompts import Prompts
from catena.watch import proof
from catena.watch.keys import Signer
from catena.watch.log import AuditLog, AuditReader

if TYPE_CHECKING:
    from catena.reach.cloud.cloud import Cloud
    from catena.reach.privacy.clearance import Gatekeeper

_logger = logging.getLogger("catena.cli")
ARCHIVE_NAME = "responses.db"
LEDGER_NAME = "labels.db"
# How long a forgetting waits for engines to give up what they hold of conversations.
UNLOAD_S = 30.0


class Chain(NamedTuple):
    """The parts, connected. `guests` are models that live outside the store."""

    home: Path
    settings: Settings
    signer: Signer
    store: Store
    log: AuditLog
    scheduler: Scheduler
    router: Router
    guests: dict[str, StoredModel]
    archive: Archive
    cloud: Cloud | None
    vault: Vault
    access: Access
    runner: Runner
    forgetting: Forgetting

    def models(self) -> list[Row]:
        """Everything that can be asked: the store's models, the guests, and remote ones that settings name singly."""
        remote = self.cloud.listed() if self.cloud is not None else []
        others = [Row(one.name, one.digest, one.manifest, 0, 0) for one in (*self.guests.values(), *remote)]
        return [*self.store.models(), *others]

    def status(self) -> dict[str, Any]:
        """What runs now, and on what."""
        return {"scheduler": self.scheduler.status(), "machine": devices.machine()}

    def trace(self, receipt: str) -> Trace:
        """The chain behind `receipt`, with the model's files compared by samples."""
        return trace(receipt, self.log, self.store, proof.checker(self.signer.verifier_key))

    def gateway(self) -> Gateway:
        """The door before these parts. Raises ConfigError beyond loopback without an API key."""
        return create(
            self.router,
            self.settings.reach,
            self.access,
            models=self.models,
            status=self.status,
            reader=self.log,
            trace=self.trace,
            verifier_key=self.signer.verifier_key,
            salt=self.signer.salt,
            shelf=self.store,
            intake=self.store,
            sessions=Sessions(self.router, self.scheduler),
            archive=self.archive,
            runner=self.runner,
            forgetting=self.forgetting,
        )


class Sessions(NamedTuple):
    """What is in memory, as the gateway sees it."""

    router: Router
    scheduler: Scheduler

    async def load(self, name: str, caller: Caller) -> StoredModel:
        """Have a model in memory without asking it anything."""
        return await self.router.load(name, caller)

    def keep(self, digest: str, idle_s: float | None) -> None:
        """Let what is loaded of a model idle for so long; None: for as long as its memory is not needed."""
        self.scheduler.keep(digest, math.inf if idle_s is None else idle_s)

    def loaded(self) -> tuple[SessionStatus, ...]:
        """What is loaded now."""
        return self.scheduler.status().sessions


@asynccontextmanager
async def open_chain(*, flags: Mapping[str, Any] | None = None, with_echo: bool = False) -> AsyncGenerator[Chain]:
    """Open every part of the state folder for writing; ConflictError if another process has it open."""
    home = config.open_home()
    settings = config.load(home, flags=flags).settings
    signer = Signer.open(home)
    store = Store.open(home, settings.store, signer)
    try:
        log = await AuditLog.open(home / "audit", signer, batch_records=settings.watch.batch_records)
        vault, archive = None, None
        try:
            vault = Vault.open(home, settings.reach, prompt=prompt_on_terminal())
            seal_answers(home / ARCHIVE_NAME, vault)
            archive = _archive(home, settings.reach, vault)
            if (home / ARCHIVE_NAME).exists():
                archive.recover()
            names = registry.names("engines")
            engines = registry.Made("engines", ["echo", *names] if with_echo else names, settings.run)
            guests = _guests() if with_echo else {}
            async with (
                open_cloud(settings.reach, home, vault) as cloud,
                Scheduler(engines, settings.run, home, find=store.resolve) as scheduler,
            ):
                default = settings.reach.default_model
                gatekeeper = open_gatekeeper(home, signer) if cloud is not None else None
                router = Router(
                    store, scheduler, log, signer, guests, default_model=default, cloud=cloud, gatekeeper=gatekeeper
                )
                access = Access(store.database)
                runner = _runner(home, store.database, access, settings.reach, vault)
                forgetting = _forgetting(home, signer, store, log, scheduler, archive, vault, runner)
                await _resume(forgetting)
                yield Chain(
                    home,
                    settings,
                    signer,
                    store,
                    log,
                    scheduler,
                    router,
                    guests,
                    archive,
                    cloud,
                    vault,
                    access,
                    runner,
                    forgetting,
                )
        finally:
            await log.close()
            if archive is not None:
                archive.close()
            if vault is not None:
                vault.close()
    finally:
        store.close()


def open_gatekeeper(home: Path, signer: Signer) -> Gatekeeper:
    """What decides whether anything leaves: detectors, the judge of contexts, and the policy of this state folder.

    Raises ConfigError for a policy that says nonsense.
    """
    # Loaded only where something could leave.
    from catena.reach.privacy.clearance import Gatekeeper  # noqa: PLC0415
    from catena.reach.privacy.context import judge  # noqa: PLC0415
    from catena.reach.privacy.ledger import Ledger  # noqa: PLC0415
    from catena.reach.privacy.policy import Policy  # noqa: PLC0415
    from catena.reach.privacy.scanning import scanner  # noqa: PLC0415

    ledger = Ledger(signer.salt("labels"), Database(home / LEDGER_NAME))
    return Gatekeeper(Policy.of(home), scanner(), judge, ledger)


@asynccontextmanager
async def open_cloud(
    settings: ReachSettings, home: Path | None = None, vault: Vault | None = None
) -> AsyncGenerator[Cloud | None]:
    """The remote ends of the configuration, None without any: then nothing that could reach one is even loaded.

    Raises ConfigError for a wrong setting.
    """
    if not settings.providers:
        yield None
        return
    from catena.reach.cloud.cloud import Cloud  # noqa: PLC0415 - loads the client

    keeper = None
    if settings.keep_egress == "bytes" and home is not None and vault is not None:
        keeper = Shelf(home, vault)
    cloud = Cloud(settings.providers, keeper=keeper)
    try:
        yield cloud
    finally:
        await cloud.close()


@contextmanager
def open_store() -> Generator[Store]:
    """The store of the state folder; works beside a running gateway and without one."""
    home = config.open_home()
    store = Store.open(home, config.load(home).settings.store, Signer.open(home))
    try:
        yield store
    finally:
        store.close()


def tracing(receipt: str, *, is_full: bool = False) -> Trace:
    """The chain behind `receipt`, read from disk. Raises NotFoundError if the log knows no such receipt."""
    home = config.open_home()
    reader = AuditReader.open(home / "audit")
    with open_store() as store:
        return trace(receipt, reader, store, proof.checker(Signer.open(home).verifier_key), is_full=is_full)


def _archive(home: Path, settings: ReachSettings, vault: Vault) -> Archive:
    """Where answers are kept for their callers; its file is made with the first of them."""
    return Archive(
        lambda: Database(home / ARCHIVE_NAME),
        keep_s=settings.responses_keep_s,
        max_bytes=settings.max_responses_bytes,
        vault=vault,
    )


def _runner(home: Path, database: Database, access: Access, settings: ReachSettings, vault: Vault) -> Runner:
    """Files that callers leave here, and the batches that read them."""
    files = Files(
        database, home / "files", max_files=settings.max_uploads, max_bytes=settings.max_uploads_bytes, vault=vault
    )
    runner = Runner(Batches(database, home / "batches", vault=vault), files, access, settings)
    runner.recover()
    scrub_once(database)
    return runner


def _forgetting(
    home: Path,
    signer: Signer,
    store: Store,
    log: AuditLog,
    scheduler: Scheduler,
    archive: Archive,
    vault: Vault,
    runner: Runner,
) -> Forgetting:
    """What forgets, over everything that keeps content."""
    shelf = Shelf(home, vault)

    def stores() -> Stores:
        kept = archive if (home / ARCHIVE_NAME).exists() else None
        return Stores(kept, runner.files, runner.batches, shelf, store.database, store.database)

    async def unload() -> None:
        for session in scheduler.status().sessions:
            scheduler.keep(session.digest, 0.0)
        with anyio.move_on_after(UNLOAD_S):
            while scheduler.status().sessions:  # noqa: ASYNC110 - others end them, when they are idle
                await anyio.sleep(0.05)

    return Forgetting(home, vault, stores, runner, log, signer, unload=unload, clear_prompts=Prompts(home).clear)


async def _resume(forgetting: Forgetting) -> None:
    """Finish a forgetting that was broken off; what hinders it hinders no answer, and it is tried again."""
    try:
        report = await forgetting.resume()
    except CatenaError as error:
        _logger.warning("a forgetting that was broken off is not finished: %s", error)
    else:
        if report is not None:
            _logger.warning("a forgetting that was broken off is finished: receipt %s", report.receipt)


def _guests() -> dict[str, StoredModel]:
    from catena.run.engines.echo import MODEL  # noqa: PLC0415 - registered only when asked for

    return {MODEL.name: MODEL}
