"""The one thing that lets a request out: what may leave, exactly, made by a decision of the policy and by nothing else.

A provider takes a Passage, a Passage takes a Clearance, and only Gatekeeper.consider makes one. Every retry, fallback
and step of an agent is considered again.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import msgspec
from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import CatenaError, RefusedError
from catena.core.messages import PUBLIC, ChatRequest, CompletionRequest, Label
from catena.reach.privacy.kinds import KINDS
from catena.reach.privacy.ledger import RUN, Ledger
from catena.reach.privacy.pieces import ID, Leaving, Piece, changed, pieces
from catena.reach.privacy.policy import Facts, Policy, Ruling
from catena.reach.privacy.pseudonyms.table import Pseudonyms, Restorer, Unsafe
from catena.reach.privacy.spans import Span

DAY_NS = 86_400 * 10**9
# Spans of pieces that were looked through, by their digest: a conversation comes back whole at every turn.
MAX_REMEMBERED = 4096
# Conversations whose stand-ins are remembered; one that is not gets others.
MAX_CONVERSATIONS = 1024
_MINT = object()


class Scans(Protocol):
    """Finds private text."""

    def scan(self, text: str, /) -> list[Span]: ...


class Judged(Protocol):
    """What a context was judged to be."""

    @property
    def is_private(self) -> bool: ...

    @property
    def reasons(self) -> tuple[str, ...]: ...


class Asker(Struct, frozen=True):
    """Who asks for what: the key, its session ("": none), the door, the label that came with the call."""

    key: str = "local"
    session: str = ""
    door: str = ""
    label: Label = PUBLIC


class Clearance:
    """`request` may leave as it stands here, under `ruling`. Raises RefusedError if anything else makes it."""

    def __init__(
        self, mint: object, request: Leaving, ruling: Ruling, facts: Facts, keeper: Gatekeeper, table: Pseudonyms | None
    ) -> None:
        self._mint = mint
        self.check()
        self.request = request
        self.ruling = ruling
        self.policy = keeper.policy.version
        self.labels = facts.label.names
        self.substitutions = dict(facts.kinds) if table is not None else {}
        self._table = table
        self._keeper = keeper

    def check(self) -> None:
        """Raises RefusedError unless a decision made this."""
        if getattr(self, "_mint", None) is not _MINT:
            raise RefusedError("only the policy's decision lets a request leave this machine")

    def left(self, num_bytes: int) -> None:
        """So much of it left: count it against the budget of the day."""
        self._keeper.left(num_bytes)

    @property
    def has_stand_ins(self) -> bool:
        return self._table is not None

    def restorer(self, is_json: bool = False) -> Restorer:
        """Turns stand-ins back in one stream of the answer."""
        return Restorer(self._table or Pseudonyms(b""), is_json=is_json)


class Verdict(Struct, frozen=True):
    """What was decided of a turn. `clearance` is None when it stays here; `label` is what it is worth from now on."""

    ruling: Ruling
    facts: Facts
    label: Label
    clearance: Clearance | None
    policy: str


class Gatekeeper:
    """Looks through every piece of a request, asks the policy, and clears what may leave; in doubt nothing does.

    `judge` says whether a text speaks of private things. What went out today is counted against the budget.
    """

    def __init__(
        self,
        policy: Policy,
        scanner: Scans,
        judge: Callable[[str], Judged],
        ledger: Ledger,
        *,
        clock_ns: Callable[[], int] = now_ns,
    ) -> None:
        self.policy = policy
        self.ledger = ledger
        self._scanner = scanner
        self._judge = judge
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, tuple[tuple[Span, ...], tuple[str, ...] | None]] = OrderedDict()
        self._tables: OrderedDict[bytes, Pseudonyms] = OrderedDict()
        self._salt = secrets.token_bytes(32)
        self._day = 0
        self._sent = [0, 0]  # bytes and requests of this day

    def consider(self, request: Leaving, asker: Asker, provider: str, model: str) -> Verdict:
        """Decide whether `request` may go to `model` of `provider`; a failure on the way means that it may not."""
        facts = Facts(key=asker.key, session=asker.session, door=asker.door, provider=provider, model=model)
        try:
            facts, found = self._facts(request, asker, facts)
            ruling = self._within_budget(self.policy.decide(facts), request)
            clearance = self._cleared(request, ruling, facts, found, asker)
        except Unsafe as error:
            ruling, clearance = Ruling("local", "stand-ins", error.message), None
        except CatenaError as error:
            ruling, clearance = Ruling("local", "unsure", f"it could not be looked through: {error.message}"), None
            facts = msgspec.structs.replace(facts, label=facts.label | Label("secret"))
        return Verdict(ruling, facts, _worth(facts), clearance, self.policy.version)

    def label(self, request: Leaving, asker: Asker) -> Label:
        """What `request` is worth, for one that stays here. What cannot be looked through is secret."""
        try:
            facts, _ = self._facts(request, asker, Facts(key=asker.key, session=asker.session), is_judged=False)
        except CatenaError:
            return Label("secret")
        return _worth(facts)

    def answered(self, text: str, label: Label) -> None:
        """An answer was made from something worth `label`: from now on it is worth as much, if it is a sentence."""
        self.ledger.note(text, label, least=RUN)

    def left(self, num_bytes: int) -> None:
        """Count what left against the budget of the day."""
        with self._lock:
            self._turn_day()
            self._sent[0] += num_bytes
            self._sent[1] += 1

    def _facts(
        self, request: Leaving, asker: Asker, facts: Facts, *, is_judged: bool = True
    ) -> tuple[Facts, list[tuple[Piece, tuple[Span, ...]]]]:
        label, kinds = asker.label | self.ledger.session(asker.key, asker.session), Counter[str]()
        sources: set[str] = set()
        reasons: list[str] = []
        unread, is_private = 0, False
        found: list[tuple[Piece, tuple[Span, ...]]] = []
        for piece in pieces(request):
            own = piece.mark.label | self.policy.label_of(piece.mark.source)
            sources.add(piece.mark.source)
            if piece.text is None:
                unread += 1
                label |= own
                continue
            if own != PUBLIC:
                self.ledger.note(piece.text, own)
            label |= own | self.ledger.find(piece.text)
            if piece.mark.source == ID:
                continue
            is_prose = is_judged and piece.manner == "prose"
            spans, judged = self._looked_through(piece.text, is_prose)
            found.append((piece, spans))
            kinds.update(span.type for span in spans)
            if judged is not None:
                is_private = True
                reasons += judged
        if label != PUBLIC:
            self.ledger.stick(asker.key, asker.session, label)
        tools = {tool.name for tool in request.tools} if isinstance(request, ChatRequest) else set[str]()
        tools |= {source.removeprefix("tool:") for source in sources if source.startswith("tool:")}
        facts = msgspec.structs.replace(
            facts,
            label=label,
            kinds=dict(kinds),
            is_private=is_private,
            reasons=tuple(dict.fromkeys(reasons)),
            sources=frozenset(sources - {""}),
            tools=frozenset(tools),
            unread=unread,
            text="\n".join(piece.text or "" for piece, _ in found),
        )
        return facts, found

    def _looked_through(self, text: str, is_prose: bool) -> tuple[tuple[Span, ...], tuple[str, ...] | None]:
        """The spans of a text, and why its context is private, None if it is not; remembered by its digest."""
        content = (b"prose" if is_prose else b"other") + text.encode("utf-8", "surrogatepass")
        key = blake2b(content, key=self._salt, digest_size=16).digest()
        with self._lock:
            if key in self._seen:
                self._seen.move_to_end(key)
                return self._seen[key]
        spans = tuple(self._scanner.scan(text))
        judged = self._judge(text) if is_prose and text.strip() else None
        reasons = judged.reasons if judged is not None and judged.is_private else None
        with self._lock:
            self._seen[key] = spans, reasons
            if len(self._seen) > MAX_REMEMBERED:
                self._seen.popitem(last=False)
        return spans, reasons

    def _cleared(
        self,
        request: Leaving,
        ruling: Ruling,
        facts: Facts,
        found: list[tuple[Piece, tuple[Span, ...]]],
        asker: Asker,
    ) -> Clearance | None:
        if ruling.outcome == "local":
            return None
        if ruling.outcome == "remote" or not facts.kinds:
            return Clearance(_MINT, request, ruling, facts, self, None)
        if not isinstance(request, (ChatRequest, CompletionRequest)):
            raise Unsafe("stand-ins would change what is computed from it")
        if request.sampling.logprobs is not None:
            raise Unsafe("log probabilities of stand-ins cannot be turned back")
        table = self._table(request, asker)
        for piece, spans in found:
            if spans and piece.manner == "name":
                raise Unsafe("something private is where nothing else can stand: in a tool, a schema or a name")
            table.learn(piece.text or "", spans, facts.text)
        request = _replaced(request, table, found)
        if any(table.leaks(piece.text or "") for piece in pieces(request) if piece.mark.source != ID):
            raise Unsafe("a stand-in could not be put everywhere")
        return Clearance(_MINT, request, ruling, facts, self, table)

    def _table(self, request: ChatRequest | CompletionRequest, asker: Asker) -> Pseudonyms:
        """The stand-ins of a session, or of what begins with the same words."""
        if asker.session:
            name = f"session\0{asker.session}"
        elif isinstance(request, ChatRequest):
            first = next((piece.text or "" for piece in pieces(request) if piece.mark.source == ""), "")
            name = f"chat\0{first}"
        else:
            name = f"text\0{str(request.prompt)[:200]}"
        key = blake2b(f"{asker.key}\0{name}".encode("utf-8", "surrogatepass"), key=self._salt).digest()
        with self._lock:
            table = self._tables.pop(key, None) or Pseudonyms(key)
            self._tables[key] = table
            if len(self._tables) > MAX_CONVERSATIONS:
                self._tables.popitem(last=False)
        return table

    def _within_budget(self, ruling: Ruling, request: Leaving) -> Ruling:
        budget = self.policy.budget
        if ruling.outcome == "local" or budget.day_bytes is budget.day_requests is None:
            return ruling
        with self._lock:
            self._turn_day()
            num_bytes, num_requests = self._sent
        size = sum(len((piece.text or "").encode("utf-8", "replace")) for piece in pieces(request))
        if budget.day_bytes is not None and num_bytes + size > budget.day_bytes:
            return Ruling("local", "budget", f"the policy lets {budget.day_bytes:,} bytes leave in a day")
        if budget.day_requests is not None and num_requests >= budget.day_requests:
            return Ruling("local", "budget", f"the policy lets {budget.day_requests:,} requests leave in a day")
        return ruling

    def _turn_day(self) -> None:
        day = self._clock_ns() // DAY_NS
        if day != self._day:
            self._day, self._sent = day, [0, 0]


def _worth(facts: Facts) -> Label:
    """What is labelled, joined with what was found of persons and secrets."""
    return facts.label if facts.found == "internal" else facts.label | Label(facts.found)


def _replaced(
    request: Leaving, table: Pseudonyms, found: list[tuple[Piece, tuple[Span, ...]]]
) -> ChatRequest | CompletionRequest:
    by_text = {(piece.text, piece.manner): list(spans) for piece, spans in found}

    def change(piece: Piece) -> str:
        if piece.text is None or piece.mark.source == ID or piece.manner == "name":
            return piece.text or ""
        spans = by_text[piece.text, piece.manner]
        return table.replace_json(piece.text, spans) if piece.manner == "json" else table.replace(piece.text, spans)

    return changed(request, change)


def kinds_told(kinds: dict[str, int]) -> str:
    """Kinds and their numbers in words, for a person."""
    return ", ".join(f"{number} × {KINDS[kind].english}" for kind, number in sorted(kinds.items()))
