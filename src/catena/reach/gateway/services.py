"""What the gateway needs from the rest of the house, as narrow seams, so that it can be tested without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from catena.core.manifest import Manifest, StoredModel
from catena.core.messages import (
    ClassifyRequest,
    Closed,
    DetokeniseRequest,
    EmbedRequest,
    GenerateRequest,
    Opened,
    PredictRequest,
    RerankRequest,
    TokeniseRequest,
    TranscribeRequest,
)
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.archive import Archive
from catena.reach.gateway.background import Background
from catena.reach.ticket import Caller

if TYPE_CHECKING:
    from catena.reach.batches import Runner
    from catena.reach.forgetting import Report, Target
    from catena.reach.router import (
        Answer,
        ClassifiedAnswer,
        CountedPrompt,
        EmbeddedAnswer,
        PredictedAnswer,
        RerankedAnswer,
        TokensAnswer,
        Transcript,
    )
    from catena.store import Change, Progress, Upload


class Judges(Protocol):
    """The part of the router that weighs and splits texts, and listens to speech."""

    async def classify(self, request: ClassifyRequest, caller: Caller, /) -> ClassifiedAnswer: ...

    async def rerank(self, request: RerankRequest, caller: Caller, /) -> RerankedAnswer: ...

    async def tokenise(self, request: TokeniseRequest | DetokeniseRequest, caller: Caller, /) -> TokensAnswer: ...

    def transcribe(self, request: TranscribeRequest, caller: Caller, /) -> AbstractAsyncContextManager[Transcript]: ...


class Reach(Judges, Protocol):
    """The router, as protocols see it."""

    def generate(self, request: GenerateRequest, caller: Caller, /) -> AbstractAsyncContextManager[Answer]: ...

    async def count(self, request: GenerateRequest, caller: Caller, /) -> CountedPrompt: ...

    async def embed(self, request: EmbedRequest, caller: Caller, /) -> EmbeddedAnswer: ...

    async def predict(self, request: PredictRequest, caller: Caller, /) -> PredictedAnswer: ...


class Listed(Protocol):
    """One model as a list shows it."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def manifest(self) -> Manifest: ...


Record = tuple[Opened, int, Closed | None, int | None]


class Reader(Protocol):
    """The reading side of the audit log."""

    def checkpoint(self) -> str: ...

    def find(self, receipt: str, /) -> Record: ...

    def recent(self, limit: int, before: str | None = None) -> Sequence[Record]: ...

    def prove(self, receipt: str, salt: bytes | None = None, /) -> Any: ...


class Shelf(Protocol):
    """The stored models, as far as a protocol may change them; every call blocks, so it belongs on a thread."""

    def pull(
        self, source: str, *, name: str | None = None, progress: Callable[[Progress], None] | None = None
    ) -> Any: ...

    def copy(self, source: str, name: str, /) -> Listed: ...

    def derive(self, base: str, name: str, change: Change, /) -> Listed: ...

    def remove(self, name: str, /) -> Listed: ...


class Intake(Protocol):
    """Files that are sent here to become models, and the templates of those that have; every call blocks."""

    def has(self, digest: str, /) -> bool: ...

    def receiving(self, digest: str, /) -> AbstractContextManager[Upload]: ...

    def adopt(self, name: str, files: Mapping[str, str], /) -> Listed: ...

    def chat_template(self, name: str, /) -> str: ...


class Loaded(Protocol):
    """One session in memory; `unload_in_s` is how long it stays if nobody uses it, None for as long as it can."""

    @property
    def model(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def unload_in_s(self) -> float | None: ...


class Sessions(Protocol):
    """What is in memory, and for how long."""

    async def load(self, name: str, caller: Caller, /) -> StoredModel:
        """Have a model in memory without asking it anything."""
        ...

    def keep(self, digest: str, idle_s: float | None, /) -> None:
        """Let the sessions of a model stay for this long after their last use; 0: end with it, None: never for that."""
        ...

    def loaded(self) -> Sequence[Loaded]: ...


class Forgets(Protocol):
    """What forgets whatever is kept of callers, for good."""

    async def run(self, target: Target, caller: str, /) -> Report: ...

    async def preview(self, target: Target, /) -> Report: ...


class Services(Struct, frozen=True):
    """Everything a handler may use. What is None is not served (501)."""

    router: Reach
    settings: ReachSettings
    access: Access
    models: Callable[[], Sequence[Listed]]
    status: Callable[[], Any] | None = None
    reader: Reader | None = None
    trace: Callable[[str], Any] | None = None
    verifier_key: str | None = None
    salt: Callable[[str], bytes] | None = None
    shelf: Shelf | None = None
    intake: Intake | None = None
    sessions: Sessions | None = None
    archive: Archive | None = None
    background: Background = Background(0)
    runner: Runner | None = None
    forgetting: Forgets | None = None
