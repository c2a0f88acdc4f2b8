"""A router over one remote end that is a test provider on loopback, and an audit log in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.providers.policy import open_gatekeeper
from tests.providers.server import Provider, provider

from catena.core.errors import AuditError, NotFoundError
from catena.core.manifest import Manifest, Provenance, StoredModel
from catena.core.messages import ChatRequest, Closed, Message, Opened, Sampling, Text
from catena.core.settings import ProviderSettings
from catena.reach.cloud.cloud import Cloud
from catena.reach.router import Router

KEY = "sk-quite-secret-0123456789"
HERE = StoredModel(Manifest("tiny", "generate", "test", (), "Apache-2.0", Provenance("test")), "sha256:" + "a" * 64, {})


def asking(model: str = "far/big", text: str = "Hi", **sampling: Any) -> ChatRequest:
    return ChatRequest(model, (Message("user", (Text(text),)),), Sampling(**sampling))


class Log:
    """An audit log in memory that notes how much a provider had been asked by each append; may be broken."""

    def __init__(self, made: Provider) -> None:
        self.records: list[Opened | Closed] = []
        self.num_asked: list[int] = []
        self.is_broken = False
        self._made = made

    async def append(self, record: Opened | Closed, /) -> int:
        if self.is_broken:
            raise AuditError("the disk is full")
        self.records.append(record)
        self.num_asked.append(self._made.num_connections)
        return len(self.records) - 1

    @property
    def opened(self) -> Opened:
        (record,) = (one for one in self.records if isinstance(one, Opened))
        return record

    @property
    def closed(self) -> Closed:
        (record,) = (one for one in self.records if isinstance(one, Closed))
        return record


class Salts:
    def salt(self, receipt: str, /) -> bytes:
        return hashlib.sha256(receipt.encode()).digest()


class Models:
    def resolve(self, name: str, /) -> StoredModel:
        if name in ("tiny", "far/near"):
            return HERE
        raise NotFoundError(f"there is no model {name!r}", param="model")


class Place:
    """The router, and everything around it."""

    def __init__(self, made: Provider, cloud: Cloud) -> None:
        self.made = made
        self.cloud = cloud
        self.log = Log(made)
        self.salts = Salts()
        self.router = Router(
            Models(), None, self.log, self.salts, default_model="far/big", cloud=cloud, gatekeeper=open_gatekeeper()
        )  # type: ignore[arg-type]


Make = Callable[..., Place]


@pytest.fixture
def servers() -> Iterator[Callable[[str], Provider]]:
    """Starts test providers that end with the test."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(provider(kind))


@pytest.fixture
async def make(servers: Callable[[str], Provider]) -> AsyncIterator[Make]:
    """Makes a place whose provider `far` speaks `kind`; further settings are the provider's."""
    clouds: list[Cloud] = []

    def build(kind: str = "openai", environ: dict[str, str] | None = None, **settings: Any) -> Place:
        made = servers(kind)
        merged = {"name": "far", "kind": kind, "base_url": made.url, "key_env": "FAR_KEY", **settings}
        found = {"FAR_KEY": KEY} if environ is None else environ
        clouds.append(Cloud([ProviderSettings(**merged)], found))
        return Place(made, clouds[-1])

    yield build
    for cloud in clouds:
        await cloud.close()
