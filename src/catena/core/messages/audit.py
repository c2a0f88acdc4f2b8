"""What the audit log holds of one request: a record opened before anything is computed, and one that closes it.

Never text: only salted digests, names, counts and times.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from catena.core.messages.events import FinishReason, Timings, Usage

Outcome = Literal["complete", "cancelled", "failed", "lost"]


class Decision(Struct, frozen=True, omit_defaults=True):
    """Where a request goes and why. `rule` names what decided; `model_digest` is the manifest's, None if refused.

    Of a remote model the digest begins with `remote:` and is of its description; `host` is where its provider is.
    `labels` is what the request is worth; `found` counts what was found in it (`email:2`, `unread:1`, `context`), and
    `policy` is the digest of the policy that decided.
    """

    outcome: Literal["local", "remote", "refuse"]
    reason: str
    rule: str = "default"
    labels: tuple[str, ...] = ()
    model: str = ""
    model_digest: str | None = None
    provider: str | None = None
    host: str | None = None
    found: tuple[str, ...] = ()
    policy: str | None = None


class Opened(Struct, frozen=True, tag="open"):
    """The request `receipt` was accepted at `at_ns` (Unix ns) and nothing has been computed for it yet.

    `question_digest` is sha256(salt || canonical bytes of the request), with the receipt's own salt.
    `caller` is the id of the key that asked, or `local`; `door` is the protocol, e.g. `openai.chat`.
    """

    receipt: str
    at_ns: int
    door: str
    caller: str
    task: str
    decision: Decision
    question_digest: str


class Cost(Struct, frozen=True):
    """What an answer cost at the prices of the configuration."""

    amount: float
    currency: str


class Closed(Struct, frozen=True, tag="close", omit_defaults=True):
    """The end of `receipt`, however it ended; written once.

    `answer_digest` is sha256(salt || canonical bytes of the choices or vectors that left), None if nothing did.
    `num_deltas` counts the pieces that streamed out, which is all that is known of the length of a cut answer.
    `sent_digest` is sha256(salt || the exact bytes of the body that left for a provider), `sent_bytes` their number;
    None and 0 if nothing left this machine. `received_digest` and `received_bytes` are of all that came in return, as
    bytes of HTTP in the order they came; `departures` counts the Egress records before this one, and `lookups` names
    what was asked of the system's resolver after the last of them.
    `lost` is written at the next start for a request whose process died.
    """

    receipt: str
    at_ns: int
    opened_index: int
    outcome: Outcome
    answer_digest: str | None = None
    engine: str = ""
    device: str = ""
    usage: Usage | None = None
    timings: Timings = Timings()
    finish: tuple[FinishReason | None, ...] = ()
    num_deltas: int = 0
    error_code: str | None = None
    sent_digest: str | None = None
    sent_bytes: int = 0
    cost: Cost | None = None
    received_digest: str | None = None
    received_bytes: int = 0
    departures: int = 0
    lookups: tuple[str, ...] = ()


def in_full(value: Any) -> Any:
    """A record, or what is in one, with every field: in the log, those that are as they begin are left out."""
    if isinstance(value, Struct):
        config = value.__struct_config__
        tag = {str(config.tag_field): config.tag} if config.tag_field else {}
        return {**tag, **{name: in_full(getattr(value, name)) for name in value.__struct_fields__}}
    return [in_full(one) for one in value] if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType]
