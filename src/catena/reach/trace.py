"""The whole chain behind one answer, link by link, each link verified, failed or not recorded.

The order is that of the chain: built → stored → run → reached → watched. Every room adds its link here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from catena.core.clock import iso
from catena.core.errors import CatenaError, IntegrityError, NotFoundError
from catena.core.manifest import Manifest
from catena.core.messages import Closed, Opened
from catena.core.units import bytes_text, duration_text

State = Literal["verified", "failed", "not_recorded"]
Stage = Literal["built", "stored", "run", "reached", "watched"]


class Link(Struct, frozen=True):
    """One link: what it says (`facts`, in reading order), whether that holds, and why (`reason`, one sentence)."""

    stage: Stage
    state: State
    reason: str
    facts: dict[str, str] = {}


class Trace(Struct, frozen=True):
    """The chain of one answer. `ok` unless a link failed; a link that was not recorded is no failure."""

    receipt: str
    ok: bool
    links: tuple[Link, ...]


class Reader(Protocol):
    """The reading side of the audit log."""

    def find(self, receipt: str, /) -> tuple[Opened, int, Closed | None, int | None]: ...

    def prove(self, receipt: str, /) -> Any: ...


class Manifests(Protocol):
    """The store, as far as a trace needs it."""

    def manifest(self, digest: str, /) -> Manifest:
        """The manifest with this digest. Raises NotFoundError; IntegrityError if digest or signature do not hold."""
        ...

    def check_files(self, digest: str, /, *, is_full: bool) -> None:
        """Compare the model's files with the manifest. Raises IntegrityError or NotFoundError."""
        ...


def trace(
    receipt: str,
    reader: Reader,
    manifests: Manifests,
    check_proof: Callable[[Any], None],
    *,
    is_full: bool = False,
) -> Trace:
    """Follow `receipt` from the question to the making of the model that answered it.

    `check_proof` raises IntegrityError for a proof that does not hold under this machine's key. With `is_full`, every
    byte of the model's files is read; otherwise size, time, header and sampled chunks are compared.
    Raises NotFoundError if the log knows no such receipt.
    """
    opened, opened_index, closed, closed_index = reader.find(receipt)
    watched = _watched(receipt, reader, check_proof, opened_index, closed_index)
    is_proved = watched.state == "verified"
    manifest, built, stored = _made(opened, manifests, is_full)
    links = (built, stored, _run(opened, closed, manifest, is_proved), _reached(opened, is_proved), watched)
    return Trace(receipt, all(link.state != "failed" for link in links), links)


def _made(opened: Opened, manifests: Manifests, is_full: bool) -> tuple[Manifest | None, Link, Link]:
    digest = opened.decision.model_digest
    if opened.decision.outcome == "remote":
        reason = "the model is somewhere else; nothing is known here of its weights, and its digest is of its name only"
        facts = {"model": opened.decision.model, "digest": digest or "", "provider": opened.decision.provider or ""}
        return None, Link("built", "not_recorded", reason), Link("stored", "not_recorded", reason, facts)
    if digest is None:
        reason = "no model was chosen, so nothing was computed"
        return None, Link("built", "not_recorded", reason), Link("stored", "not_recorded", reason)
    try:
        manifest = manifests.manifest(digest)
    except NotFoundError:
        if opened.decision.model == "echo":  # a stored model of that name would have been found
            reason = "echo is a test engine: it repeats the question and has no weights"
            return None, Link("built", "not_recorded", reason), Link("stored", "not_recorded", reason)
        reason = "the model is no longer on this machine; its digest is kept in the record"
        facts = {"model": opened.decision.model, "digest": digest}
        return None, Link("built", "not_recorded", reason), Link("stored", "not_recorded", reason, facts)
    except IntegrityError as error:
        failed = Link("stored", "failed", error.message, {"model": opened.decision.model, "digest": digest})
        return None, Link("built", "not_recorded", "the manifest cannot be trusted"), failed
    return manifest, _built(manifest), _stored(manifest, digest, manifests, is_full)


def _built(manifest: Manifest) -> Link:
    provenance = manifest.provenance
    facts = {
        "source": provenance.source,
        "source digest": provenance.source_digest or "",
        "licence": manifest.licence,
        "made from": ", ".join(provenance.parents),
        "recipe": provenance.recipe or "",
        "data": ", ".join(provenance.data),
        "training hardware checked": provenance.sentinel or "",
        "compression report": provenance.compression or "",
    }
    shown = {name: value for name, value in facts.items() if value}
    if provenance.recipe is None and not provenance.parents:
        return Link(
            "built", "not_recorded", "the weights were made elsewhere; how they were trained is not recorded", shown
        )
    return Link("built", "verified", "the signed manifest says how this model was made", shown)


def _stored(manifest: Manifest, digest: str, manifests: Manifests, is_full: bool) -> Link:
    facts = {"model": manifest.name, "digest": digest, "format": manifest.format}
    facts |= {f"file {file.name}": f"{bytes_text(file.size_bytes)}, {file.digest}" for file in manifest.files}
    try:
        manifests.check_files(digest, is_full=is_full)
    except NotFoundError as error:
        return Link("stored", "not_recorded", f"{error.message}; its signed manifest is kept", facts)
    except CatenaError as error:
        return Link("stored", "failed", error.message, facts)
    how = "every byte matches" if is_full else "size, header and sampled chunks match"
    return Link("stored", "verified", f"the manifest's signature holds, and of its files {how}", facts)


def _run(opened: Opened, closed: Closed | None, manifest: Manifest | None, is_proved: bool) -> Link:
    if closed is None:
        return Link("run", "not_recorded", "the answer is still being computed")
    timings = closed.timings
    facts = {
        "outcome": closed.outcome,
        "engine": closed.engine,
        "device": closed.device,
        "model": manifest.name if manifest else opened.decision.model,
        "ended": iso(closed.at_ns),
        "took": duration_text((closed.at_ns - opened.at_ns) / 1e9),
        "prefill": duration_text(timings.prefill_s) if timings.prefill_s else "",
        "decode": duration_text(timings.decode_s) if timings.decode_s else "",
        "finish": ", ".join(str(reason) for reason in closed.finish),
        "answer digest": closed.answer_digest or "",
        "error": closed.error_code or "",
    }
    if closed.usage:
        facts["tokens in"] = str(closed.usage.prompt_tokens)
        facts["tokens out"] = str(closed.usage.completion_tokens)
        if closed.usage.source != "reported":
            facts["tokens are"] = closed.usage.source
    if closed.sent_digest:
        facts["left this machine"] = f"{closed.sent_bytes} bytes, {closed.sent_digest}"
    if closed.cost:
        facts["cost"] = f"{closed.cost.amount:.6f} {closed.cost.currency}".rstrip()
    shown = {name: value for name, value in facts.items() if value}
    if not is_proved:
        return Link("run", "failed", "the record of the computation is not proved by the log", shown)
    if closed.outcome == "lost":
        return Link("run", "not_recorded", "the process ended before the answer was complete", shown)
    if opened.decision.outcome == "remote":
        reason = "what left and came back is proved by the log; how the provider computed it is not known here"
        return Link("run", "not_recorded", reason, shown)
    return Link("run", "verified", "the closing record is proved by the log", shown)


def _reached(opened: Opened, is_proved: bool) -> Link:
    decision = opened.decision
    facts = {
        "asked": iso(opened.at_ns),
        "door": opened.door,
        "caller": opened.caller,
        "decision": decision.outcome,
        "why": decision.reason,
        "rule": decision.rule,
        "labels": ", ".join(decision.labels),
        "provider": decision.provider or "",
        "host": decision.host or "",
        "question digest": opened.question_digest,
    }
    shown = {name: value for name, value in facts.items() if value}
    if not is_proved:
        return Link("reached", "failed", "the record of the decision is not proved by the log", shown)
    if decision.outcome == "remote":
        return Link("reached", "verified", "the decision was recorded before anything left this machine", shown)
    return Link("reached", "verified", "the decision was recorded before anything was computed", shown)


def _watched(
    receipt: str, reader: Reader, check_proof: Callable[[Any], None], opened_index: int, closed_index: int | None
) -> Link:
    facts = {"opened at entry": str(opened_index)}
    if closed_index is not None:
        facts["closed at entry"] = str(closed_index)
    try:
        check_proof(reader.prove(receipt))
    except CatenaError as error:
        return Link("watched", "failed", error.message, facts)
    if closed_index is None:
        return Link("watched", "verified", "the opening record is in the tree that this machine's key signed", facts)
    return Link("watched", "verified", "both records are in the tree that this machine's key signed", facts)
