"""All remote ends of one configuration, as the router sees them: which names they answer to, and the way there."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping

import anyio

from catena.core.errors import ExpiredError, NotFoundError
from catena.core.settings import ProviderSettings
from catena.reach.cloud.client import Client
from catena.reach.cloud.configured import configured
from catena.reach.cloud.departure import Unrecorded
from catena.reach.cloud.passage import Keeps, Passage, RemoteModel, remote_model
from catena.reach.cloud.provider import MAX_WHOLE_BYTES, Errand, asked

LISTING_TIME_S = 30.0
PATTERN = frozenset("*?[")


class Cloud:
    """Every configured provider. Nothing is opened before a provider is asked. Raises ConfigError."""

    def __init__(
        self,
        providers: Iterable[ProviderSettings],
        environ: Mapping[str, str] = os.environ,
        keeper: Keeps | None = None,
    ) -> None:
        self.ends = configured(providers, environ)
        self._keeper = keeper
        self._clients = {
            name: Client(name, end.base_url, end.settings, end.authorities) for name, end in self.ends.items()
        }

    def find(self, name: str, /) -> RemoteModel | None:
        """The remote model that is called `name`; None if its first part names no provider.

        Raises NotFoundError for a model that this provider's `models` leave out.
        """
        provider, slash, rest = name.partition("/")
        end = self.ends.get(provider)
        if end is None or not slash or not rest:
            return None
        if not any(fnmatch.fnmatchcase(rest, pattern) for pattern in end.settings.models):
            raise NotFoundError(
                f"provider {provider!r} may not be asked for this model",
                hint=f"its models are {', '.join(end.settings.models)}; reach.providers says so",
                param="model",
            )
        return remote_model(provider, end.kind, end.host, rest)

    def errand(self, passage: Passage, task: str, /) -> Errand:
        """The session that carries out what `passage` holds. Writes it and sends nothing. Raises UnsupportedError for
        what cannot be carried."""
        passage.keeper = self._keeper
        name = passage.model.provider
        return Errand(self.ends[name], self._clients[name], passage, task)

    def listed(self) -> list[RemoteModel]:
        """The models that configuration names one by one, without asking anybody."""
        return [
            remote_model(end.name, end.kind, end.host, name)
            for end in self.ends.values()
            for name in end.settings.models
            if not PATTERN & set(name)
        ]

    async def ask_models(self, provider: str) -> list[RemoteModel]:
        """Ask a provider which models it has, and give those that its `models` allow. Raises what asking raises."""
        end = self.ends[provider]
        try:
            with anyio.fail_after(LISTING_TIME_S):
                outgoing = end.dialect.models()
                async with asked(end, self._clients[provider], outgoing, Unrecorded(outgoing.body)) as answer:
                    body = await answer.body(MAX_WHOLE_BYTES)
        except TimeoutError:
            raise ExpiredError(f"provider {provider!r} did not list its models in time") from None
        names = sorted(set(end.dialect.listed(body)))
        patterns = end.settings.models
        return [
            remote_model(provider, end.kind, end.host, name)
            for name in names
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]

    async def close(self) -> None:
        """End every connection."""
        for client in self._clients.values():
            await client.close()
