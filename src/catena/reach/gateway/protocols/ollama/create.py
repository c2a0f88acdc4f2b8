"""POST /api/create: a model derived from a stored one, or made of files that were sent."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from catena.core.errors import InputError, MissingExtraError, UnsupportedError
from catena.core.ids import is_digest
from catena.core.messages import Sampling
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import asking, fields, messages, options
from catena.reach.gateway.protocols.ollama.library import shelf_of
from catena.reach.gateway.protocols.ollama.messages import Turn
from catena.reach.gateway.protocols.ollama.narration import Teller, narrate
from catena.reach.gateway.protocols.ollama.reading import new_name, read, stored_name
from catena.reach.gateway.services import Intake, Listed, Services
from catena.reach.presets import Preset
from catena.store import Change

MAX_ADAPTERS = 8
MAX_SYSTEM_CHARS = 1 << 16
_GO = re.compile(r"\{\{-?\s*(\.|\$|/\*|(if|range|with|else|end|template|block|define|break|json|slice|len|index)\b)")


class CreateWire(Struct, frozen=True, rename={"base": "from"}):
    """The body. What is not here is not honoured; `fields.CREATE` says what becomes of it."""

    model: str
    base: str | None = None
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[Turn] | None = None
    stream: bool | None = None


class Plan(Struct, frozen=True):
    """What is to be made: either of a `base` or of `files`, with adapters by digest, and what holds for requests."""

    name: str
    base: str
    files: dict[str, str]
    adapters: dict[str, str]
    template: str | None
    licence: str | None
    preset: Preset

    @property
    def is_plain(self) -> bool:
        """Whether the model is its files and nothing else."""
        return not (self.adapters or self.template or self.licence or self.preset.facts())


async def create(exchange: Exchange) -> None:
    """Make a model and say each step."""
    wire = await read(exchange, fields.CREATE, CreateWire)
    plan = planned(wire, exchange.warnings)
    shelf, intake = shelf_of(exchange), exchange.services.intake
    if intake is None:
        raise MissingExtraError("the store", "local")

    def work(tell: Teller) -> None:
        tell("reading model metadata")
        base = plan.base
        if plan.files:
            base = _told(tell, intake.adopt(plan.name, plan.files))
        if not (plan.files and plan.is_plain):
            adapters = [_adapter(exchange.services, intake, plan, digest, name) for name, digest in _named(plan)]
            preset = Preset(
                plan.preset.sampling,
                plan.preset.system,
                plan.preset.messages,
                dict.fromkeys((row.name for row in adapters), 1.0),
            )
            change = Change(preset.facts(), plan.template, plan.licence, tuple(row.digest for row in adapters))
            for part in ("system", "template", "adapters"):
                if getattr(plan, part, None) or getattr(plan.preset, part, None):
                    tell(f"creating {part} layer")
            _told(tell, shelf.derive(base, plan.name, change))
        tell("writing manifest")

    with asking.known(wire.base or wire.model):
        await narrate(exchange, work, is_stream=wire.stream is not False)


def planned(wire: CreateWire, warnings: list[str]) -> Plan:
    """What is wanted, checked. Raises InputError or UnsupportedError naming the parameter."""
    if bool(wire.base) == bool(wire.files):
        raise InputError("a model is made from another, or of files: name one of both", param="from")
    if wire.template and _GO.search(wire.template):
        raise UnsupportedError("template is a Go template", param="template", hint="write it in Jinja, or leave it out")
    if wire.system and len(wire.system) > MAX_SYSTEM_CHARS:
        raise InputError(f"system has more than {MAX_SYSTEM_CHARS} characters", param="system")
    if len(wire.adapters or {}) > MAX_ADAPTERS:
        raise InputError(f"at most {MAX_ADAPTERS} adapters", param="adapters")
    for param, digests in (("files", wire.files), ("adapters", wire.adapters)):
        if not all(is_digest(digest) for digest in (digests or {}).values()):
            raise InputError(f"{param} needs a digest (sha256:…) for each name", param=param)
    return Plan(
        name=new_name(wire.model),
        base=stored_name(wire.base) if wire.base else "",
        files=wire.files or {},
        adapters=wire.adapters or {},
        template=wire.template or None,
        licence=_licence(wire.license, warnings),
        preset=Preset(_sampling(wire, warnings), wire.system or "", messages.messages(wire.messages or ())),
    )


def _sampling(wire: CreateWire, warnings: list[str]) -> Sampling:
    chosen = options.read(wire.parameters, warnings, "parameters")
    if chosen.num_ctx:
        warnings.append("num_ctx ignored: a model has one context for all; see run.context_tokens")
    return options.sampling(chosen)


def _licence(value: str | list[str] | None, warnings: list[str]) -> str | None:
    text = (value[0] if value else "") if isinstance(value, list) else value or ""
    first = "".join(letter if letter.isprintable() else "?" for letter in text.strip().partition("\n")[0])[:200].strip()
    if first and (first != text.strip() or (isinstance(value, list) and len(value) > 1)):
        warnings.append("license kept up to the end of its first line")
    return first or None


def _named(plan: Plan) -> list[tuple[str, str]]:
    """Each adapter with a name of its own, for the case that it is not stored as a model yet."""
    return [(f"{plan.name}-adapter-{number}", digest) for number, digest in enumerate(plan.adapters.values(), start=1)]


def _adapter(services: Services, intake: Intake, plan: Plan, digest: str, name: str) -> Listed:
    """The stored adapter whose weights have this digest, or a new one. Raises InputError for what is no adapter."""
    for row in services.models():
        if row.manifest.task == "adapter" and any(entry.digest == digest for entry in row.manifest.files):
            return row
    file = next(file for file, known in plan.adapters.items() if known == digest)
    row = intake.adopt(name, {file: digest})
    if row.manifest.task != "adapter":
        raise InputError(f"{row.name} is no adapter: its task is {row.manifest.task}", param="adapters")
    return row


def _told(tell: Teller, row: Listed) -> str:
    """Say which files the model shares; gives its name."""
    for entry in row.manifest.files:
        tell(f"using already created layer {entry.digest}")
    return row.name
